"""Following a log whose files a real engine replaces: every line once, or a gap where the engine dropped some."""

from __future__ import annotations

from itertools import pairwise

from botmaker.container.v1 import container_observer_pb2 as pb
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from tests.support.bots import Bots
from tests.support.calls import Calls
from tests.support.log_forms import Batched
from tests.support.observing import reading

# The engine keeps 3 files of 10 MB.
LINE = "x" * 8000
FORM = Batched(1000)


def numbers(entries: list[pb.LogEntry]) -> list[int]:
    """The numbers of the lines, each of which is one entry."""
    return [int(entry.line.split()[1]) for entry in entries if entry.line.startswith(b"line ")]


def write(count: int, pause: str = "") -> tuple[str, ...]:
    """A command that writes numbered lines."""
    loop = f"n=0; while [ $n -lt {count} ]; do n=$((n+1)); echo line $n {LINE}; {pause} done"
    return ("sh", "-c", f"{loop}; echo the end; exec sleep 100000")


def misses_nothing_without_a_gap(entries: list[pb.LogEntry]) -> bool:
    """Whether each line follows the one before, unless it has a gap.

    The first has one only if the reader was there before it was lost: one that comes late begins with what is kept.
    """
    lines = [entry for entry in entries if entry.line.startswith(b"line ")]
    got = numbers(lines)
    expected = [after != before + 1 for before, after in pairwise(got)]
    gaps = [entry.gap for entry in lines]
    return expected == gaps[1:] and sorted(set(got)) == got and not (got[0] == 1 and gaps[0])


def test_a_follower_gets_every_line_once_while_files_are_replaced(
    calls: Calls, observer: ContainerObserverStub, bots: Bots
) -> None:
    bot_id, count = bots.new(), 3000
    calls.create(bot_id, *write(count, "[ $((n % 5)) = 0 ] && sleep 0.01;"))
    with reading(observer.StreamLogs(FORM.request(bot_id, follow=True))) as read:
        calls.start(bot_id)
        read.wait_for(lambda messages: messages and b"the end" in FORM.lines(messages[-1:]), "the end")
        entries = [entry for message in read.messages for entry in FORM.entries_of(message)]
    assert list(range(1, count + 1)) == numbers(entries)
    assert not any(entry.gap for entry in entries)


def test_a_follower_of_a_log_that_grows_faster_than_it_is_read_misses_nothing_without_a_gap(
    calls: Calls, observer: ContainerObserverStub, bots: Bots
) -> None:
    bot_id, count = bots.new(), 6000
    calls.create(bot_id, *write(count))
    with reading(observer.StreamLogs(FORM.request(bot_id, follow=True))) as read:
        calls.start(bot_id)
        read.wait_for(lambda messages: messages and b"the end" in FORM.lines(messages[-1:]), "the end")
        entries = [entry for message in read.messages for entry in FORM.entries_of(message)]
    assert misses_nothing_without_a_gap(entries)
    assert count == numbers(entries)[-1]


def test_a_reader_that_stops_reading_while_files_are_replaced_misses_nothing_without_a_gap(
    calls: Calls, observer: ContainerObserverStub, bots: Bots
) -> None:
    # More than twice what the engine keeps: a request keeps the files readable that it opened at its start.
    bot_id, count = bots.new(), 10_000
    calls.create(bot_id, *write(count))
    stream = observer.StreamLogs(FORM.request(bot_id, follow=True))
    calls.start(bot_id)
    entries = list(FORM.entries_of(next(stream)))
    # Until the engine has dropped lines that were not read.
    bots.wait_for_log(bot_id, b"the end")
    for message in stream:
        entries += FORM.entries_of(message)
        if entries[-1].line == b"the end":
            break
    stream.cancel()
    assert misses_nothing_without_a_gap(entries)
    assert count == numbers(entries)[-1]
    assert any(entry.gap for entry in entries)
