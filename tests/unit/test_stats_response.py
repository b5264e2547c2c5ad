"""The response of GetStats: encoded once for all who ask, in small steps, and always with what is newest."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from botmaker.container.v1 import container_observer_pb2 as pb
from container_manager.model import DiskUse
from container_manager.rpc import observer_codec as codec
from tests.unit.sampled_backend import run

Figures = list[tuple[str, bytes]]


def figures(count: int, pids: int = 1) -> Figures:
    """Figures of containers, encoded."""
    return [(f"c{i}", pb.WatchStatsResponse(container_id=f"c{i}", pids=pids).SerializeToString()) for i in range(count)]


def sizes(response: bytes) -> dict[str, tuple[int, int]]:
    """The processes and the state's bytes in a response, by container."""
    containers = pb.GetStatsResponse.FromString(response).containers
    return {each.container_id: (each.pids, each.state_bytes) for each in containers}


class Disk(dict[str, DiskUse]):
    """Counts what is read, by moment."""

    def __init__(self, count: int) -> None:
        super().__init__({f"c{i}": DiskUse(state_bytes=i) for i in range(count)})
        self.reads: Counter[float] = Counter()

    def get(self, key: str, default: Any = None) -> Any:
        self.reads[asyncio.get_running_loop().time()] += 1
        return super().get(key, default)


def test_what_was_measured_is_encoded_once_for_all_callers_in_small_steps() -> None:
    disk, of_all = Disk(2_000), figures(2_000)

    async def main() -> list[bytes]:
        encoder = codec.StatsResponseEncoder()
        return await asyncio.gather(*(encoder.encode(of_all, disk) for _ in range(50)))

    for response in set(run(main())):
        assert {f"c{i}": (1, i) for i in range(2_000)} == sizes(response)
    assert 2_000 == disk.reads.total()
    assert max(disk.reads.values()) <= codec._CONTAINERS_AT_ONCE * codec._STEPS_AT_ONCE


def test_no_moment_encodes_the_responses_of_many_callers() -> None:
    encoded: Counter[float] = Counter()

    class Counting(codec.StatsResponseEncoder):
        def _field(self, container_id: str, message: bytes) -> bytes:
            encoded[asyncio.get_running_loop().time()] += 1
            return super()._field(container_id, message)

    async def main() -> None:
        encoder, of_all = Counting(), figures(2_000)
        await asyncio.gather(*(encoder.encode(of_all, {}) for _ in range(50)))

    run(main())
    assert 50 * 2_000 == encoded.total()
    assert max(encoded.values()) <= codec._CONTAINERS_AT_ONCE * codec._STEPS_AT_ONCE


def test_containers_that_come_and_go_do_not_pile_up_where_nothing_can_be_measured() -> None:
    async def main() -> None:
        encoder, nothing = codec.StatsResponseEncoder(), dict[str, DiskUse]()
        for number in range(2 * codec._FIELDS_KEPT):
            await encoder.encode([(f"c{number}", b"")], nothing)
        assert len(encoder._fields) <= codec._FIELDS_KEPT + codec._CONTAINERS_AT_ONCE

    run(main())


def test_new_figures_and_new_measurements_replace_those_before() -> None:
    before, after = figures(1, pids=1), figures(1, pids=2)
    small, large = ({"c0": DiskUse(state_bytes=size)} for size in (1, 2))

    async def main() -> None:
        encoder = codec.StatsResponseEncoder()
        assert {"c0": (1, 1)} == sizes(await encoder.encode(before, small))
        assert {"c0": (2, 1)} == sizes(await encoder.encode(after, small))
        assert {"c0": (2, 2)} == sizes(await encoder.encode(after, large))
        assert {"c0": (2, 0)} == sizes(await encoder.encode(after, {}))

    run(main())
