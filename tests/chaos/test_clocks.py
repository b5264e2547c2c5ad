"""The host's clock was ahead or behind while a bot wrote its log, and is set right.

No process's clock can be set for itself: a Go program does not ask the C library for the time, and a time namespace
keeps the wall clock. So the times in the engine's log file are changed while nobody has it open.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from botmaker.container.v1 import container_observer_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager_client import connect
from tests.chaos.conftest import Report
from tests.support.calls import Calls
from tests.support.fault_table import FaultRow
from tests.support.faulty_world import FaultyWorld
from tests.support.observing import watching
from tests.support.scale import sizes

SEED = "20261129 clocks"
LINES = 50
OFF_SECONDS = (3600, -3600, 86_400, -86_400, 1, -1)
# Each start writes the next lines and waits.
BOT = f"""
n=$(cat /tmp/n 2>/dev/null || echo 0)
for i in $(seq {LINES}); do n=$((n + 1)); echo "line $n"; done
echo $n >/tmp/n
exec sleep 100000
"""


@sizes("times", short=4, complete=40)
def test_a_clock_that_is_set_forward_and_back_loses_and_repeats_no_log_entry(
    world: FaultyWorld, report: Report, times: int
) -> None:
    bot_id = world.bots.new()
    read: list[bytes] = []
    cursor = ""
    with (
        world.mix(SEED) as mix,
        connect(world.target) as channel,
        watching(ContainerObserverStub(channel)) as watch,
    ):
        calls, observer = Calls(ContainerManagerStub(channel)), ContainerObserverStub(channel)
        container_id = calls.create(bot_id, "sh", "-c", BOT, network="none")
        for number in range(times):
            before = 2 * LINES * number
            # Nobody reads the log while the clock is wrong.
            calls.start(bot_id)
            world.bots.wait_for_log(bot_id, b"line %d\n" % (before + LINES))
            calls.stop(bot_id, grace=0)
            log = Path(world.docker.api.inspect_container(container_id)["LogPath"])
            _shift(log, before, OFF_SECONDS[number % len(OFF_SECONDS)])
            request = pb.StreamLogsRequest(bot_id=bot_id, follow=True, after_cursor=cursor)
            stream = observer.StreamLogs(request, timeout=60)
            entries = _take(stream, LINES)
            # It follows while the clock is set right.
            calls.start(bot_id)
            entries += _take(stream, LINES)
            stream.cancel()
            calls.stop(bot_id, grace=0)
            read += [entry.line for entry in entries]
            cursor = entries[-1].cursor
        assert not watch.ended.is_set()
        calls.remove(bot_id, grace=0)
    expected = [b"line %d" % number for number in range(1, 2 * LINES * times + 1)]
    assert expected == read
    lost = world.settled(mix.entries, wrong=mix.wrong)
    codes = world.recorder.codes()
    report(FaultRow(f"clock set, {len(read)} log entries", times, codes.total(), codes, lost))


def _take(stream: Iterator[pb.StreamLogsResponse], count: int) -> list[pb.LogEntry]:
    return [next(stream).entry for _ in range(count)]


def _shift(log: Path, first: int, seconds: int) -> None:
    """Change the times of the entries from this one on."""
    lines = log.read_text().splitlines()
    for number in range(first, len(lines)):
        entry = json.loads(lines[number])
        second, fraction = entry["time"].rstrip("Z").split(".")
        shifted = datetime.fromisoformat(second) + timedelta(seconds=seconds)
        lines[number] = json.dumps({**entry, "time": f"{shifted.isoformat()}.{fraction}Z"}, separators=(",", ":"))
    log.write_text("".join(f"{line}\n" for line in lines))
