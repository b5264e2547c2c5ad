"""For any value in any field of any request, the answer follows the contract, and a refusal changes nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import docker
import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from hypothesis import HealthCheck, given, settings

from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager.errors import ERROR_DOMAIN, ContainerManagerError
from tests.hostile.engine_state import EngineState
from tests.hostile.wild_values import FIELDS, KNOWN_IDS, SERVICES, fields, key, keys, requests
from tests.support.bots import Bots
from tests.support.calls import FOREVER, Calls

STUBS: dict[str, Any] = {
    "BotProvisioner": BotProvisionerStub,
    "ContainerMaintainer": ContainerMaintainerStub,
    "ContainerManager": ContainerManagerStub,
    "ContainerObserver": ContainerObserverStub,
}
METHODS = [method for service in SERVICES for method in service.methods]
CHANGING = ("CreateContainer", "StartContainer", "RestartContainer", "RemoveContainer", "ReloadSecrets")
STREAM_SECONDS = 0.1
# Examples for each field; fewer where valid calls create or start something, or wait for messages.
QUICK_EXAMPLES, SLOW_EXAMPLES = 30, 200
COSTLY = ("CreateContainer", "StartContainer", "RestartContainer", "WatchContainers", "WatchStats", "GetStats")
QUICK_COSTLY_EXAMPLES = 8
COMMON = {
    "deadline": None,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
}


def contract() -> set[tuple[str, str]]:
    """Every code and reason that a caller may receive; INTERNAL is a bug."""

    def kinds(cls: type[ContainerManagerError]) -> Iterator[type[ContainerManagerError]]:
        for kind in cls.__subclasses__():
            yield kind
            yield from kinds(kind)

    return {(kind.code, kind.reason) for kind in kinds(ContainerManagerError)} - {("INTERNAL", "INTERNAL_ERROR")}


CONTRACT = contract()


class Subject:
    """The service and its engine, with several bots: with a container, without one, without secrets, with a log."""

    def __init__(self, channel: grpc.Channel, state: EngineState, bots: Bots, roots: Sequence[Path]) -> None:
        self._channel = channel
        self._state = state
        self._roots = roots
        self._calls = Calls(ContainerManagerStub(channel))
        self._kept, self._absent, self._poor, self._loud = (bots.new() for _ in range(4))
        (bots.secrets_root / self._poor / "GATEWAY_TOKEN").unlink()
        (bots.secrets_root / self._poor).rmdir()
        self._calls.run(self._loud, "sh", "-c", "echo out; echo err >&2; exec sleep 100000")
        bots.wait_for_log(self._loud, b"err")
        self._calls.stop(self._loud, grace=0)
        self._calls.create(self._kept, *FOREVER)
        self._before = state.picture()
        self._files_before = self._files()

    def bot_ids(self, method: MethodDescriptor) -> list[str]:
        """The bots to call the method for; those that it may change can be created again."""
        most = {"CreateContainer": self._absent, "StreamLogs": self._loud}.get(method.name, self._kept)
        return [most] * 5 + [self._kept, self._absent, self._poor]

    def check(self, method: MethodDescriptor, request: Any) -> None:
        """One call: its outcome follows the contract, and nothing has changed unless the outcome is OK."""
        try:
            self._call(method, request)
        except grpc.RpcError as exc:
            assert_contract(exc)
            assert self._before == self._state.picture()
            # A create that is refused may have made the state directory.
            assert method.name in CHANGING or self._files_before == self._files()
        else:
            after = self._files()
            changed = {path.partition("/")[0] for path, _ in after.items() ^ self._files_before.items()}
            assert changed <= {getattr(request, "bot_id", "")} or method.name in CHANGING
            self._files_before = after
            if self._before != self._state.picture():
                assert method.name in CHANGING
                self._restore()

    def _call(self, method: MethodDescriptor, request: Any) -> None:
        call = getattr(STUBS[method.containing_service.name](self._channel), method.name)
        if not method.server_streaming:
            call(request, timeout=60)
            return
        stream = call(request, timeout=STREAM_SECONDS)
        try:
            for _ in stream:
                pass
        except grpc.RpcError as exc:
            # A stream is expected to stay open until its deadline.
            if exc.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
        finally:
            stream.cancel()

    def _files(self) -> dict[str, tuple[int, int, int]]:
        """Every path below the roots, with its mode, size and time. No path below them belongs to no bot."""
        found = ((root, path) for root in self._roots for path in root.rglob("*"))
        return {
            str(path.relative_to(root)): (at.st_mode, at.st_size, at.st_mtime_ns)
            for root, path in found
            for at in [path.lstat()]
        }

    def _restore(self) -> None:
        """Undo a successful call, and check that it changed this one bot only."""
        for bot_id in (self._absent, self._kept):
            self._calls.remove(bot_id, grace=0)
        self._calls.create(self._kept, *FOREVER)
        after = self._state.picture()

        def others(picture: dict[str, Any]) -> dict[str, Any]:
            kept = [f"/botmaker-{self._kept}"]
            return {**picture, "containers": [each for each in picture["containers"] if each[1] != kept]}

        assert others(self._before) == others(after)
        self._before = after


def assert_contract(exc: grpc.RpcError) -> None:
    """The error is in the contract, has details, and shows nothing of the server's internals."""
    status = rpc_status.from_call(exc)
    assert status is not None, f"no details: {exc}"
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert ERROR_DOMAIN == info.domain
    assert (exc.code().name, info.reason) in CONTRACT, status.message
    assert "Traceback" not in status.message
    assert status.message.strip()


@pytest.fixture(scope="module")
def subject(
    own_channel: grpc.Channel,
    engine_state: EngineState,
    own_client: docker.DockerClient,
    secrets_root: Path,
    own_state_root: Path,
) -> Iterator[Subject]:
    bots = Bots(own_client, secrets_root)
    yield Subject(own_channel, engine_state, bots, (secrets_root, own_state_root))
    bots.remove_all()


def explore(
    method: MethodDescriptor, wild: AbstractSet[str], subject: Subject, caplog: pytest.LogCaptureFixture, **how: Any
) -> None:
    """Call the method with many requests."""

    @settings(**COMMON, **how)
    @given(requests(GetMessageClass(method.input_type), wild))
    def every(request: Any) -> None:
        subject.check(method, request)

    KNOWN_IDS[:] = subject.bot_ids(method)
    with caplog.at_level(logging.WARNING):
        every()
    assert [] == [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_any_value_in_any_field_gets_an_answer_of_the_contract_and_a_refusal_changes_nothing(
    method: MethodDescriptor, subject: Subject, caplog: pytest.LogCaptureFixture
) -> None:
    every = keys(GetMessageClass(method.input_type))
    examples = QUICK_COSTLY_EXAMPLES if method.name in COSTLY else QUICK_EXAMPLES
    for wild in (*({each} for each in every), every):
        explore(method, set(wild), subject, caplog, max_examples=examples, derandomize=True)


@pytest.mark.slow
@pytest.mark.timeout(1800)
# Requests have the most files and the largest ones that are allowed.
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_thousands_of_random_requests_get_answers_of_the_contract(
    method: MethodDescriptor, subject: Subject, caplog: pytest.LogCaptureFixture
) -> None:
    every = keys(GetMessageClass(method.input_type))
    for wild in (*({each} for each in every), set(every[::2]), set(every[1::2]), every):
        explore(method, set(wild), subject, caplog, max_examples=SLOW_EXAMPLES, print_blob=True)


def test_every_field_of_every_request_has_its_values() -> None:
    """A new field of the contract needs hostile values here."""
    known = {key(field) for method in METHODS for field in fields(method.input_type)}
    assert known == set(FIELDS)


def test_the_contract_is_known() -> None:
    assert ("INVALID_ARGUMENT", "INVALID_BOT_ID") in CONTRACT
    assert ("INTERNAL", "INTERNAL_ERROR") not in CONTRACT
