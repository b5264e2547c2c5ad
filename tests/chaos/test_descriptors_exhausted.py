"""More idle connections than the service has descriptors for."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager_client import connect
from tests.chaos.conftest import Report
from tests.support.calls import FOREVER, Calls
from tests.support.fault_table import FaultRow
from tests.support.faulty_world import RECOVERY_SECONDS, FaultyWorld
from tests.support.recorded_calls import create_request, request_of
from tests.support.scale import sizes
from tests.support.waiting import wait_until

DESCRIPTORS = 256
IDLE = 600
# Connections to the engine, some of which stay open for the next call.
SPARE = 80


@sizes("times", short=1, complete=10)
def test_idle_connections_beyond_all_descriptors_harm_no_caller_that_is_there(
    world: FaultyWorld, report: Report, times: int
) -> None:
    world.service.terminate()
    assert 0 == world.service.wait()
    world.service.close()
    # Both limits: it raises the soft one to the hard one.
    world.serve(prefix=("sh", "-c", f'ulimit -n {DESCRIPTORS}; exec "$@"', "sh"))
    bot_id = world.bot_ids[0]
    entries: dict[str, str | None] = dict.fromkeys(world.bot_ids)
    with connect(world.target) as channel:
        stub, calls = ContainerManagerStub(channel), Calls(ContainerManagerStub(channel))
        calls.list()
        before = _open_descriptors(world)
        for _ in range(times):
            with ExitStack() as idle:
                for _ in range(IDLE):
                    idle.enter_context(_idle(world))
                created = world.recorder.call(stub, "CreateContainer", create_request(bot_id, *FOREVER), 20)
                verbs = ("StartContainer", "GetContainerStatus", "ListManagedContainers", "StopContainer")
                outcomes = [world.recorder.call(stub, verb, request_of(verb, bot_id), 20) for verb in verbs]
                assert {"OK"} == {outcome.code for outcome in (created, *outcomes)}
                assert created.response.container_id == calls.status(bot_id).container_id
                assert _open_descriptors(world) <= DESCRIPTORS
            _await_newcomer(world)
            wait_until(lambda: _open_descriptors(world) <= before + SPARE, "the descriptors are given back")
            world.recorder.call(stub, "RemoveContainer", request_of("RemoveContainer", bot_id), 20)
    lost = world.settled(entries)
    codes = world.recorder.codes()
    report(FaultRow(f"{IDLE} idle connections, {DESCRIPTORS} descriptors", times, codes.total(), codes, lost))


def _await_newcomer(world: FaultyWorld) -> None:
    """Once the idle connections are closed, callers are served again."""

    def served() -> bool:
        with connect(world.target) as channel:
            verb = "ListManagedContainers"
            return world.recorder.call(ContainerManagerStub(channel), verb, request_of(verb, ""), 5).code == "OK"

    world.recorder.broken_connections_allowed.set()
    wait_until(served, "a newcomer is served", 2 * RECOVERY_SECONDS)
    world.recorder.broken_connections_allowed.clear()


@contextmanager
def _idle(world: FaultyWorld) -> Iterator[None]:
    """A connection without traffic. Beyond the limit it waits to be accepted, or is refused."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.setblocking(False)  # noqa: FBT003 - as it is called
        with suppress(BlockingIOError, ConnectionError):
            connection.connect(str(world.socket))
        yield


def _open_descriptors(world: FaultyWorld) -> int:
    return len(list(Path(f"/proc/{world.service.process.pid}/fd").iterdir()))
