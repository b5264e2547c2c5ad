"""The host's clock is set back and forth, as the engine's log file shows it afterwards, while a bot's log is read."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from botmaker.container.v1 import container_observer_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager_client import connect
from tests.chaos.conftest import Report
from tests.support.calls import Calls
from tests.support.fault_table import FaultRow
from tests.support.faulty_world import FaultyWorld
from tests.support.log_file import LogFile
from tests.support.observing import reading
from tests.support.scale import sizes

SEED = "20261129 clocks"


@sizes("times", short=2, complete=20)
def test_no_entry_is_lost_or_repeated_while_the_clock_is_set_back_and_forth(
    world: FaultyWorld, report: Report, times: int
) -> None:
    """By one who follows, nor by one who resumes after each entry."""
    draw, bot_id = random.Random(SEED), world.bot_ids[0]
    expected: list[bytes] = []
    moment = datetime.now(UTC)
    resumed: list[bytes] = []
    cursor = ""
    with connect(world.target) as channel:
        calls, observer = Calls(ContainerManagerStub(channel)), ContainerObserverStub(channel)
        # It says what number it was given, so that each line of the log is another one.
        calls.create(bot_id, "sh", "-c", "date +%N; exec sleep 100000")
        calls.start(bot_id)
        calls.stop(bot_id, grace=0)
        path = Path(world.docker.api.inspect_container(f"botmaker-{bot_id}")["LogPath"])
        path.write_bytes(b"")
        with reading(observer.StreamLogs(pb.StreamLogsRequest(bot_id=bot_id, follow=True))) as read:
            for number in range(times):
                for line in range(20):
                    moment += timedelta(seconds=draw.choice((0, 0, 1, 3600, 86_400, -1, -3600, -86_400)))
                    text = f"{number}.{line}"
                    LogFile(path).write((moment, text + "\n"), nanoseconds=draw.randrange(10**9))
                    expected.append(text.encode())
                calls.start(bot_id)
                count = len(expected) + 1
                read.wait_for(lambda messages, count=count: len(messages) >= count, "the bot's line")
                expected.append(read.messages[count - 1].entry.line)
                calls.stop(bot_id, grace=0)
                request = pb.StreamLogsRequest(bot_id=bot_id, after_cursor=cursor)
                for message in observer.StreamLogs(request):
                    resumed.append(message.entry.line)
                    cursor = message.entry.cursor
            followed = [message.entry.line for message in read.messages]
        calls.remove(bot_id)
    wrong = sum((Counter(expected) - Counter(followed)).values()) + sum((Counter(expected) - Counter(resumed)).values())
    assert (expected, expected) == (followed, resumed)
    report(FaultRow("clock set back and forth", 21 * times, 5 * times, Counter(OK=5 * times), wrong))
