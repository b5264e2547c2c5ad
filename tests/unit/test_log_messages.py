"""Log entries in messages of StreamLogs: one in each, or as many as the caller accepts."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botmaker.container.v1 import container_observer_pb2 as pb
from container_manager.model import LogEntry, LogSource
from container_manager.rpc.log_messages import MAX_MESSAGE_BYTES, LogMessageEncoder
from container_manager.rpc.manager_codec import timestamp

SECOND = 1_000_000_000
ABSURD = 2**32 - 1
SOURCES = {LogSource.STDOUT: pb.LogEntry.SOURCE_STDOUT, LogSource.STDERR: pb.LogEntry.SOURCE_STDERR}


def message_of(entry: LogEntry) -> pb.LogEntry:
    """The entry, built with the generated class."""
    time_ns, source, line, partial, cursor, gap = entry
    return pb.LogEntry(
        time=timestamp(time_ns),
        source=SOURCES[source],
        line=line,
        partial=partial,
        cursor=cursor.decode(),
        gap=gap,
    )


def encoded(entries: Sequence[LogEntry], most: int) -> list[bytes]:
    return list(LogMessageEncoder(most).encode(entries))


def numbered(count: int, line: bytes = b"x") -> list[LogEntry]:
    return [LogEntry(SECOND * 1_700_000_000 + number, LogSource.STDOUT, line, partial=False) for number in range(count)]


# At each of these values the encoding of a length or number changes its size; zero is left out.
nanos = st.one_of(st.sampled_from([0, 1, 127, 128, 2**14, 2**21, 2**28 - 1, 2**28, SECOND - 1]), st.integers(0, SECOND))
seconds = st.one_of(st.sampled_from([-1, 0, 1, 1_700_000_000, 2**31, 253_402_300_799]), st.integers(0, 2**33))
lines = st.one_of(
    st.binary(max_size=60), st.sampled_from([90, 126, 127, 128, 16_383, 16_384, 65_536]).map(lambda size: b"y" * size)
)
entries = st.builds(
    LogEntry,
    st.builds(lambda s, n: s * SECOND + n, seconds, nanos),
    st.sampled_from(LogSource),
    lines,
    st.booleans(),
    st.sampled_from([b"", b"1" * 47, b"a" * 57]),
    st.booleans(),
)


@given(st.lists(entries, max_size=20), st.sampled_from([0, 1]))
def test_one_by_one_each_message_is_what_the_generated_class_makes_of_its_entry(
    given: list[LogEntry], most: int
) -> None:
    expected = [pb.StreamLogsResponse(entry=message_of(each)).SerializeToString() for each in given]
    assert expected == encoded(given, most)


@given(st.lists(entries, max_size=20), st.integers(2, 25))
def test_a_batch_is_what_the_generated_class_makes_of_its_entries(given: list[LogEntry], most: int) -> None:
    batches = [given[begin : begin + most] for begin in range(0, len(given), most)]
    expected = [pb.StreamLogsResponse(entries=map(message_of, each)).SerializeToString() for each in batches]
    assert expected == encoded(given, most)


def test_no_message_is_longer_than_1_mib_and_each_is_as_full_as_that_allows() -> None:
    given = numbered(100, b"y" * 65_536)
    messages = encoded(given, 1000)
    assert 1 << 20 == MAX_MESSAGE_BYTES
    assert all(MAX_MESSAGE_BYTES - 70_000 < len(each) <= MAX_MESSAGE_BYTES for each in messages[:-1])
    shown = [entry for each in messages for entry in pb.StreamLogsResponse.FromString(each).entries]
    assert list(map(message_of, given)) == shown


def test_an_entry_that_is_longer_by_itself_is_a_message_by_itself() -> None:
    small, large = numbered(1)[0], numbered(1, b"y" * MAX_MESSAGE_BYTES)[0]
    messages = [pb.StreamLogsResponse.FromString(each) for each in encoded([small, large, small], 1000)]
    assert [[1], [MAX_MESSAGE_BYTES], [1]] == [[len(entry.line) for entry in each.entries] for each in messages]


@pytest.mark.parametrize(("most", "sizes"), [(2, [2, 2, 1]), (4, [4, 1]), (5, [5]), (1000, [5]), (ABSURD, [5])])
def test_no_message_has_more_entries_than_the_caller_takes(most: int, sizes: list[int]) -> None:
    messages = encoded(numbered(5), most)
    assert sizes == [len(pb.StreamLogsResponse.FromString(each).entries) for each in messages]
