"""GetServerInfo: what a client asks before it relies on something."""

from __future__ import annotations

import container_manager
from botmaker.container.v1 import container_observer_pb2 as pb
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager_client import connect
from tests.rpc.conftest import ServeOn
from tests.support.memory_backend import MemoryBackend

PACKAGE = "botmaker.container.v1"


def info(target: str) -> pb.GetServerInfoResponse:
    with connect(target) as channel:
        return ContainerObserverStub(channel).GetServerInfo(pb.GetServerInfoRequest())


def test_server_info_names_versions_and_the_limits_of_the_configuration(serve_on: ServeOn, unix: str) -> None:
    with serve_on(unix, max_watchers=7, max_log_streams=8, max_concurrent_calls=9) as (target,):
        answer = info(target)
    assert (container_manager.__version__, "memory", "1.0") == (answer.version, answer.backend, answer.backend_version)
    limits = answer.limits
    assert (7, 8, 9) == (limits.max_watchers, limits.max_log_streams, limits.max_concurrent_calls)
    assert (256, 64) == (limits.max_maintenance_streams, limits.max_actions)
    assert (4 * 1024 * 1024, 32 * 1024 * 1024) == (limits.max_request_bytes, limits.max_response_bytes)


def test_server_info_names_the_services_of_the_listener_that_was_called(serve_on: ServeOn, unix: str) -> None:
    other = f"{unix}2"
    with serve_on(unix, other, services=(f"{other}=observer",)) as targets:
        services = [list(info(target).services) for target in targets]
    every = [
        f"{PACKAGE}.{name}"
        for name in ("BotProvisioner", "ContainerMaintainer", "ContainerManager", "ContainerObserver")
    ]
    assert [every, every[3:]] == services


def test_server_info_answers_while_the_backend_does_not(serve_on: ServeOn, unix: str, memory: MemoryBackend) -> None:
    memory.go_away()
    with serve_on(unix) as (target,):
        answer = info(target)
    assert ("memory", "") == (answer.backend, answer.backend_version)


def test_any_number_of_callers_ask_the_backend_once(serve_on: ServeOn, unix: str, memory: MemoryBackend) -> None:
    with serve_on(unix) as (target,), connect(target) as channel:
        stub = ContainerObserverStub(channel)
        calls = [stub.GetServerInfo.future(pb.GetServerInfoRequest()) for _ in range(50)]
        assert {"1.0"} == {call.result().backend_version for call in calls}
    assert 1 == memory.versions_asked
