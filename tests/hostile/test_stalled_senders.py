"""Senders that stop half-way cost the service little memory, are ended, and delay no other caller."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from container_manager.scheduling.reception import AT_ONCE
from container_manager_client import connect
from tests.support.serving import ServerProcess, server_process
from tests.support.stalled_senders import (
    CREATE,
    EVERY_METHOD,
    HEALTH_CHECK,
    HEALTH_WATCH,
    MOST_GROWTH_BYTES,
    MOST_OF_CONNECTION_BYTES,
    REFLECTION,
    SENDERS,
    STREAM_LOGS,
    WAITING_BYTES,
    StalledSenders,
)
from tests.support.waiting import wait_until

DRAIN_SECONDS = 60


@pytest.fixture
def server(session_dir: Path, tmp_path: Path) -> Iterator[ServerProcess]:
    """The service on both kinds of listeners, without an engine: it can receive requests without one."""
    (tmp_path / "secrets").mkdir(mode=0o711)
    arguments = ["--listen", f"unix://{session_dir}/stalled/s.sock", "--listen", "tcp://127.0.0.1:0"]
    arguments += ["--secrets-root", str(tmp_path / "secrets"), "--token-file", str(tmp_path / "token")]
    arguments += ["--docker-host", f"unix://{tmp_path}/none.sock", "--drain-seconds", str(DRAIN_SECONDS)]
    with server_process(arguments, tmp_path / "log") as process:
        yield process


def senders(
    server: ServerProcess, listener: str, path: bytes | Sequence[bytes], *, calls: int = SENDERS
) -> StalledSenders:
    unix, tcp = server.line.split()[-2:]
    return StalledSenders(unix if listener == "unix" else tcp, path, calls=calls)


KINDS: dict[str, tuple[str, bytes | Sequence[bytes]]] = {
    "create": ("unix", CREATE),
    "logs": ("unix", STREAM_LOGS),
    "reflection": ("unix", REFLECTION),
    "health without a token": ("tcp", HEALTH_CHECK),
    "a watch of health without a token": ("tcp", HEALTH_WATCH),
    "every method": ("unix", EVERY_METHOD),
    "every method without a token": ("tcp", EVERY_METHOD),
}


@pytest.mark.parametrize(("listener", "path"), KINDS.values(), ids=KINDS)
def test_a_hundred_stalled_senders_cost_little_memory_and_end_by_themselves(
    server: ServerProcess, listener: str, path: bytes | Sequence[bytes]
) -> None:
    unix = server.line.split()[-2]
    with connect(unix) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        health.Check(health_pb2.HealthCheckRequest(), timeout=30)
        before = server.peak_memory_bytes()
        with senders(server, listener, path) as stalled:
            # Other callers are served meanwhile.
            wait_until(lambda: health.Check(health_pb2.HealthCheckRequest(), timeout=30) is not None, "health answers")
            wait_until(stalled.all_ended, "the service has ended every stalled call")
        receptions = 1 if isinstance(path, bytes) else 3
        assert server.peak_memory_bytes() - before < receptions * MOST_GROWTH_BYTES
        health.Check(health_pb2.HealthCheckRequest(), timeout=30)


@pytest.mark.parametrize("kind", ["create", "health without a token"])
def test_stalled_senders_on_a_hundred_connections_cost_bounded_memory_and_end_by_themselves(
    server: ServerProcess, kind: str
) -> None:
    connections, calls = 100, 10
    with connect(server.line.split()[-2]) as channel, ExitStack() as stack:
        health = health_pb2_grpc.HealthStub(channel)
        health.Check(health_pb2.HealthCheckRequest(), timeout=30)
        before = server.peak_memory_bytes()
        stalled = [stack.enter_context(senders(server, *KINDS[kind], calls=calls)) for _ in range(connections)]
        for each in stalled:
            wait_until(each.all_ended, "the service has ended every stalled call")
        growth = server.peak_memory_bytes() - before
        most = MOST_GROWTH_BYTES + connections * (calls * WAITING_BYTES + MOST_OF_CONNECTION_BYTES)
        assert growth < most, f"{growth / 2**20:.0f} MiB"
        health.Check(health_pb2.HealthCheckRequest(), timeout=30)


def test_stalled_senders_of_all_kinds_at_once_cost_little_memory(server: ServerProcess) -> None:
    with connect(server.line.split()[-2]) as channel, ExitStack() as stack:
        health = health_pb2_grpc.HealthStub(channel)
        health.Check(health_pb2.HealthCheckRequest(), timeout=30)
        before = server.peak_memory_bytes()
        stalled = [stack.enter_context(senders(server, *kind)) for kind in KINDS.values()]
        wait_until(lambda: health.Check(health_pb2.HealthCheckRequest(), timeout=30) is not None, "health answers")
        for each in stalled:
            wait_until(each.all_ended, "the service has ended every stalled call")
        # What is received at once is bounded for the calls, the health and the reflections of each listener apart.
        assert server.peak_memory_bytes() - before < 3 * MOST_GROWTH_BYTES


@pytest.mark.parametrize(("kind", "logged"), [("create", AT_ONCE), ("health without a token", 0)])
def test_a_stalled_sender_does_not_hold_up_a_shutdown(server: ServerProcess, kind: str, logged: int) -> None:
    """The first signal ends all reception. The log has no calls of health."""
    with senders(server, *KINDS[kind]) as stalled:
        # The others have given way to these, which have time now.
        wait_until(lambda: len(stalled.ended) == SENDERS - AT_ONCE, "only so many are received")
        signalled = time.monotonic()
        server.terminate()
        assert 0 == server.wait(2 * DRAIN_SECONDS)
        assert time.monotonic() - signalled < DRAIN_SECONDS / 2
    assert logged == server.log_text().count("code=UNAVAILABLE")


def test_health_watchers_of_one_listener_do_not_shut_out_those_of_another(
    server: ServerProcess, tmp_path: Path
) -> None:
    unix, tcp = server.line.split()[-2:]
    request = health_pb2.HealthCheckRequest()
    with connect(tcp) as anonymous, connect(unix) as ours:
        watches = [health_pb2_grpc.HealthStub(anonymous).Watch(request) for _ in range(256)]
        for watch in watches:
            next(watch)
        with pytest.raises(grpc.RpcError) as refused:
            next(health_pb2_grpc.HealthStub(anonymous).Watch(request))
        assert grpc.StatusCode.RESOURCE_EXHAUSTED is refused.value.code()
        watch = health_pb2_grpc.HealthStub(ours).Watch(request)
        next(watch)
        for each in [*watches, watch]:
            each.cancel()
