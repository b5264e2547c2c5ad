"""What is in an engine's volumes as streams, from an engine that breaks off, is silent or refuses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.engine.volumes import VolumeClient
from container_manager.errors import EngineTimeoutError, EngineUnavailableError
from tests.support.fake_engine import Bytes, FakeEngine, Json, Script, error
from tests.support.waiting import wait_until
from tests.unit.speaking_engine import CHUNKED, chunk, stalling
from tests.unit.speaking_engine import script as give

ARCHIVE = "/containers/c1/archive"


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with FakeEngine() as engine:
        yield engine
        wait_until(lambda: engine.open == 0, "no connection is left")


def received(engine: FakeEngine, *answers: Script, timeout_seconds: float = 5) -> bytes:
    """What the client reads of a container's archive, a few bytes at a time."""
    give(engine, *answers)
    client = VolumeClient(engine.url, timeout_seconds=timeout_seconds)
    data = bytearray()
    try:
        with client.archive("c1", "/state") as stream:
            while piece := stream.read(3):
                data += piece
    finally:
        client.close()
    return bytes(data)


def test_a_stream_is_read_to_its_end(engine: FakeEngine) -> None:
    pieces = stalling(CHUNKED, chunk(b"abcd"), chunk(b"efg"), chunk(b""))
    assert b"abcdefg" == received(engine, pieces)
    (request,) = engine.seen("GET", ARCHIVE)
    assert {"path": "/state"} == request.query


def test_a_stream_that_ends_amid_a_piece_or_before_the_last_one_is_no_whole_one(engine: FakeEngine) -> None:
    for pieces in ((chunk(b"abcd"),), (chunk(b"abcd"), b"100\r\nabc"), (b"100\r\nabc",)):
        with pytest.raises(EngineUnavailableError):
            received(engine, Bytes((CHUNKED, *pieces)))


def test_the_time_out_is_for_each_read(engine: FakeEngine) -> None:
    with pytest.raises(EngineTimeoutError):
        received(engine, stalling(CHUNKED, chunk(b"abcd")), timeout_seconds=0.2)
    with pytest.raises(EngineTimeoutError):
        received(engine, stalling(), timeout_seconds=0.2)


def test_what_the_block_raises_is_not_taken_for_the_engines(engine: FakeEngine) -> None:
    """Such as a full disk of this machine."""
    give(engine, Bytes((CHUNKED, chunk(b"abcd"))))
    client = VolumeClient(engine.url, timeout_seconds=5)
    with pytest.raises(OSError, match="mine"), client.archive("c1", "/state"):
        raise OSError("mine")
    client.close()


def test_a_refusal_is_told(engine: FakeEngine) -> None:
    with pytest.raises(EngineRejectedError, match="no such path"):
        received(engine, error(404, "no such path"))
    client = VolumeClient(engine.url, timeout_seconds=5)
    engine.on("GET", "/volumes/*", error(404, "none"), Json({"Name": "v"}), error(500, "broken"))
    assert [False, True] == [client.has_volume("v") for _ in range(2)]
    with pytest.raises(EngineRejectedError, match="broken"):
        client.has_volume("v")
    client.close()
