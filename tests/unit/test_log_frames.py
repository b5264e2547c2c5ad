"""The engine's log answers, decoded into entries."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_manager.engine.log_frames import MAX_LINE_BYTES, STEP_BYTES, FrameDecoder, LogFaultError, LogFormatError
from container_manager.model import RawEntry
from tests.unit.log_engine import BEGIN_NS, ERR, OUT, SECOND, frame, raw, stamp

PIECE = 16 * 1024  # the limit of the engine


def decoded(decoder: FrameDecoder, *chunks: bytes) -> list[RawEntry]:
    """All entries of a response that arrives in these pieces and ends. Raises the decoder's error."""
    entries = [entry for chunk in chunks for entry in decoder.feed_step(chunk)]
    if decoder.problem is not None:
        raise decoder.problem
    return entries


def in_pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """The data, cut at those of these places that are inside it."""
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[begin:end] for begin, end in pairwise(edges)]


def faulty_frame(kind: int, payload: bytes) -> bytes:
    return struct.pack(">BxxxL", kind, len(payload)) + payload


# Frames


def test_each_frame_is_an_entry_with_its_source_time_and_bytes() -> None:
    entries = [raw(0), raw(1, b"", ERR), raw(1, bytes(range(256)).replace(b"\n", b"")), raw(SECOND, b"\xff\x00 \r")]
    assert entries == decoded(FrameDecoder(), b"".join(map(frame, entries)))


def test_times_are_exact_to_the_nanosecond_over_seconds_and_years() -> None:
    for text, time_ns in [
        (b"2026-11-23T23:34:35.865920324Z ", 1_795_476_875_865_920_324),
        (b"2026-12-31T23:59:59.999999999Z ", 1_798_761_599_999_999_999),
        (b"2027-01-01T00:00:00.000000000Z ", 1_798_761_600_000_000_000),
        (b"2028-02-29T00:00:00.000000001Z ", 1_835_395_200_000_000_001),
    ]:
        assert [(time_ns, OUT, b"x", False)] == decoded(FrameDecoder(), faulty_frame(1, text + b"x\n"))


def local(time_ns: int, zone: str) -> bytes:
    """The stamp as an engine in this zone writes it for the log drivers ``local`` and ``journald``."""
    seconds, nanoseconds = divmod(time_ns, SECOND)
    moment = datetime.fromtimestamp(seconds, datetime.strptime(zone, "%z").tzinfo)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}{zone} ".encode()


@given(
    st.lists(st.tuples(st.integers(0, SECOND), st.sampled_from(["", "+01:00", "-04:30", "+14:00"])), max_size=8),
    st.sampled_from([0, 1, MAX_LINE_BYTES - 6, MAX_LINE_BYTES - 1, MAX_LINE_BYTES, MAX_LINE_BYTES + 1]),
    st.lists(st.integers(min_value=0), max_size=6),
)
def test_the_zone_of_a_stamp_makes_no_difference(
    stamps: Sequence[tuple[int, str]], size: int, cuts: Sequence[int]
) -> None:
    """A zone that has UTC in winter has both forms in one log."""
    text = b"x" * size + b"\n"
    in_utc = [faulty_frame(1, stamp(BEGIN_NS + after) + text) for after, _ in stamps]
    in_zones = [
        faulty_frame(1, (local(BEGIN_NS + after, zone) if zone else stamp(BEGIN_NS + after)) + text)
        for after, zone in stamps
    ]
    entries = decoded(FrameDecoder(), *in_pieces(b"".join(in_zones), cuts))
    assert entries == decoded(FrameDecoder(), b"".join(in_utc))


def test_the_same_second_is_another_time_in_another_zone() -> None:
    zones = {b"Z ": 0, b"+01:00 ": -3600, b"-01:30 ": 5400}
    for one, two in permutations(zones, 2):
        data = b"".join(faulty_frame(1, stamp(BEGIN_NS)[:-2] + zone + b"x\n") for zone in (one, two, one))
        expected = [raw(zones[zone] * SECOND, b"x") for zone in (one, two, one)]
        assert expected == decoded(FrameDecoder(), data)


def test_a_long_entry_waits_for_its_zone() -> None:
    data = faulty_frame(1, local(BEGIN_NS, "+01:00") + b"x" * MAX_LINE_BYTES + b"y\n")
    for cut in range(50):
        pieces = [raw(0, b"x" * MAX_LINE_BYTES, partial=True), raw(0, b"y")]
        assert pieces == decoded(FrameDecoder(), data[:cut], data[cut:])


def test_an_entry_without_newline_is_partial() -> None:
    entries = [raw(0, b"x" * PIECE, partial=True), raw(0, b"rest"), raw(SECOND, b"no end", ERR, partial=True)]
    assert entries == decoded(FrameDecoder(), b"".join(map(frame, entries)))


texts = st.one_of(
    st.binary(max_size=40).map(lambda text: text.replace(b"\n", b"")),
    st.sampled_from([PIECE, MAX_LINE_BYTES - 1, MAX_LINE_BYTES]).map(lambda size: b"y" * size),
)
raws = st.builds(raw, st.integers(0, 3 * SECOND), texts, st.sampled_from([OUT, ERR]), partial=st.booleans())


@given(st.lists(raws, max_size=8), st.lists(st.integers(min_value=0), max_size=12))
def test_how_frames_arrive_makes_no_difference(entries: Sequence[RawEntry], cuts: Sequence[int]) -> None:
    data = b"".join(map(frame, entries))
    whole = decoded(FrameDecoder(), data)
    assert b"".join(text for _, _, text, _ in entries) == b"".join(text for _, _, text, _ in whole)
    assert whole == decoded(FrameDecoder(), *in_pieces(data, cuts))


def test_byte_for_byte_is_a_way_to_arrive_too() -> None:
    entries = [raw(0), raw(1, b"x", ERR), raw(2, b"", partial=True)]
    data = b"".join(map(frame, entries))
    assert entries == decoded(FrameDecoder(), *(data[place : place + 1] for place in range(len(data))))


@given(st.integers(0, 3 * MAX_LINE_BYTES + 2), st.booleans(), st.lists(st.integers(min_value=0), max_size=6))
def test_a_longer_entry_comes_in_pieces_cut_at_the_same_places(size: int, partial: bool, cuts: Sequence[int]) -> None:
    text = bytes(range(1, 8)) * (size // 7 + 1)
    entries = decoded(FrameDecoder(), *in_pieces(frame(raw(5, text, ERR, partial=partial)) + frame(raw(6)), cuts))
    *pieces, following = entries
    assert raw(6) == following
    assert text == b"".join(piece for _, _, piece, _ in pieces)
    assert all(len(piece) <= MAX_LINE_BYTES for _, _, piece, _ in pieces)
    assert all(len(piece) == MAX_LINE_BYTES for _, _, piece, _ in pieces[:-1])
    assert {(BEGIN_NS + 5, ERR)} == {entry[:2] for entry in pieces}
    assert [True] * (len(pieces) - 1) + [partial] == [more for _, _, _, more in pieces]


def test_a_long_entry_does_not_wait_for_its_end() -> None:
    data = frame(raw(0, b"x" * (10 * MAX_LINE_BYTES)))
    assert 4 == len(FrameDecoder().feed_step(data[: 5 * MAX_LINE_BYTES]))


def test_much_data_is_decoded_in_steps_between_which_other_tasks_run() -> None:
    entries = [raw(number, b"x" * 50) for number in range(10_000)]
    data = b"".join(map(frame, entries))

    async def feed() -> list[RawEntry]:
        return [entry async for batch in FrameDecoder().feed(data) for entry in batch]

    async def test() -> int:
        turns = 0
        feeding = asyncio.create_task(feed())
        while not feeding.done():
            await asyncio.sleep(0)
            turns += 1
        assert entries == await feeding
        return turns

    assert 8 * 1024 == STEP_BYTES
    assert asyncio.run(test()) >= len(data) // STEP_BYTES


@pytest.mark.parametrize("left_out", [1, 5, 36, 40, 43])
def test_a_frame_that_is_cut_off_is_dropped(left_out: int) -> None:
    data = frame(raw(0)) + frame(raw(1, b"lost"))
    assert [raw(0)] == decoded(FrameDecoder(), data[:-left_out])


# Invalid logs


def test_an_error_of_the_engine_is_one_after_the_entries_before_it() -> None:
    text = b"Error grabbing logs: unexpected EOF\n"
    decoder = FrameDecoder()
    assert [raw(0)] == decoder.feed_step(frame(raw(0)) + faulty_frame(3, text) + frame(raw(1)))
    assert isinstance(decoder.problem, LogFaultError)
    assert "Error grabbing logs: unexpected EOF" == str(decoder.problem)
    assert [] == decoder.feed_step(frame(raw(2)))


@pytest.mark.parametrize("size", [1, MAX_LINE_BYTES + 1])
@pytest.mark.parametrize(
    "time",
    [
        "0000-01-01T00:00:00.000000000Z",
        "2026-13-23T23:34:35.865920324Z",
        "2026-02-29T23:34:35.865920324Z",
        "2026-11-23T25:34:35.865920324Z",
        "2026-11-23T23:34:35.865920324+24:00",
    ],
)
def test_an_impossible_time_is_a_fault_of_its_entry(time: str, size: int) -> None:
    decoder = FrameDecoder()
    data = faulty_frame(1, f"{time} ".encode() + b"x" * size + b"\n")
    assert [raw(0)] == decoder.feed_step(frame(raw(0)) + data + frame(raw(1)))
    assert isinstance(decoder.problem, LogFaultError)
    assert f"an entry has an impossible time: {time}" == str(decoder.problem)


@pytest.mark.parametrize(
    "data",
    [
        faulty_frame(1, b"no time stamp, but long enough for one\n"),
        faulty_frame(1, b"2026-11-23T23:34:35.8659203xxZ x\n"),
        faulty_frame(1, b"2026-11-23T23:34:35.+65920324Z x\n"),
        faulty_frame(1, b"2026-11-23T23:34:35.865920324  x\n"),
        # In the same second as the entry before it, which is not parsed again.
        faulty_frame(1, stamp(BEGIN_NS)[:-11] + b"8659203xxZ x\n"),
        faulty_frame(1, stamp(BEGIN_NS)[:-11] + b"865920324  x\n"),
        faulty_frame(1, b"2026-11-23T23:34:35.865920324+01:0"),
        faulty_frame(1, b"2026-11-23T23:34:35.865920324+0100 xyz\n"),
        faulty_frame(1, b"2026-11-23T23:34:35.865920324+01:00x\n"),
        faulty_frame(1, b"2026-11-23T23:34:35.8659203+01:00 xyz\n"),
        faulty_frame(1, b"short\n"),
        faulty_frame(0, frame(raw(0))[8:]),
        faulty_frame(7, b""),
        b"<html><body>502 Bad Gateway</body></html>" * 10,
    ],
)
def test_anything_else_is_an_error(data: bytes) -> None:
    decoder = FrameDecoder()
    assert [raw(0)] == decoder.feed_step(frame(raw(0)) + data)
    assert isinstance(decoder.problem, LogFormatError)
