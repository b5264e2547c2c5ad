"""However many watch however many bots, each step of the event loop is small, and nobody is left out."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from contextlib import AsyncExitStack

import pytest

from container_manager.pace import Pace
from container_manager.stats import feed as stats_feed
from container_manager.stats import sampler as stats_sampler
from tests.support.traced_memory import traced
from tests.unit.sampled_backend import BEGIN, Figures, SampledBackend, collect, encoded, feeding, run


def together(backend: SampledBackend, watchers: int, bots: int, seconds: float) -> list[Figures]:
    """What many watchers of all bots receive, at the shortest interval."""

    async def main() -> list[Figures]:
        async with feeding(backend, *(f"c{i}" for i in range(bots))) as feed:
            return await asyncio.gather(*(collect(feed, 0.5, seconds) for _ in range(watchers)))

    return run(main())


def moments(streams: Iterable[Figures]) -> Counter[float]:
    """How many messages each moment of the loop had."""
    return Counter(seconds for figures in streams for seconds, _ in figures)


def test_no_moment_has_more_than_a_small_step_of_messages_whoever_watches() -> None:
    """Fifty watchers of 200 bots every half second ask for 20,000 messages a second."""
    most: Counter[float] = Counter()

    async def main() -> list[int]:
        names = [f"c{i}" for i in range(200)]
        async with feeding(SampledBackend(), *names) as feed:
            loop = asyncio.get_running_loop()

            async def read() -> int:
                async with feed.watch(frozenset(), 0.5) as watcher:
                    seen = Counter[bytes]()
                    while loop.time() < BEGIN + 8:
                        seen[(await watcher.next()).split()[0]] += 1
                        most[loop.time()] += 1
                assert 200 == len(seen), "each bot has its turn"
                assert max(seen.values()) <= min(seen.values()) + 2, "none more often than another"
                return seen.total()

            return await asyncio.gather(*(read() for _ in range(50)))

    received = run(main())
    assert max(most.values()) <= stats_feed._MESSAGES_AT_ONCE
    assert sum(received) <= 8 * stats_feed.MESSAGES_PER_SECOND + stats_feed._MESSAGES_AT_ONCE
    assert sum(received) >= 0.9 * 7 * stats_feed.MESSAGES_PER_SECOND, "and no slower than that"
    assert max(received) <= 1.1 * min(received), "all watchers alike"


def test_samples_are_bounded_too_and_each_bot_is_sampled_alike() -> None:
    backend = SampledBackend()
    together(backend, 1, 2_000, 20)
    of = Counter(container_id for _, container_id in backend.requests)
    assert 2_000 == len(of)
    assert max(of.values()) <= min(of.values()) + 2
    assert of.total() <= 20 * stats_sampler.SAMPLES_PER_SECOND + stats_sampler._SAMPLES_AT_ONCE


def test_within_the_bounds_everybody_receives_each_interval() -> None:
    for figures in together(SampledBackend(), 10, 100, 10):
        of = Counter(container_id for _, container_id in figures)
        assert 100 == len(of)
        assert min(of.values()) >= 18


def test_figures_are_computed_and_encoded_once_for_all_who_watch() -> None:
    counts: Counter[str] = Counter()

    async def main() -> None:
        async with feeding(SampledBackend(), "a") as feed:
            feed._encode = lambda bot_id, container_id, stats: (
                counts.update([container_id]) or encoded(bot_id, container_id, stats)  # type: ignore[func-returns-value]
            )
            await asyncio.gather(*(collect(feed, 0.5, 10) for _ in range(200)))

    run(main())
    assert counts["a"] <= 20


def test_a_watcher_of_thousands_begins_in_small_steps() -> None:
    """Each step takes a turn, so that a hundred who come at once do not add up to one long step."""
    begun: Counter[float] = Counter()

    async def main() -> None:
        async with feeding(SampledBackend(), *(f"c{i}" for i in range(1_000))) as feed:
            loop, begin = asyncio.get_running_loop(), feed._begin

            def counted(watcher: stats_feed.Watcher, containers: list[str]) -> None:
                begun[loop.time()] += len(containers)
                begin(watcher, containers)

            feed._begin = counted  # type: ignore[method-assign]
            await asyncio.gather(*(collect(feed, 3600, 5) for _ in range(100)))

    run(main())
    assert 100 * 1_000 == begun.total()
    assert max(begun.values()) <= stats_feed._BEGUN_AT_ONCE


def test_watchers_who_do_not_read_cost_little_more_than_one_of_them() -> None:
    """Of both kinds: those that have figures before them, and those that still miss some, which come early for them."""
    names = [f"c{i}" for i in range(500)]

    async def memory(watchers: int) -> int:
        async with feeding(SampledBackend(), *names) as feed, AsyncExitStack() as stack:
            held = stack.enter_context(traced())
            slow = [await stack.enter_async_context(feed.watch(frozenset(), seconds)) for seconds in (2, 60)]
            await asyncio.sleep(5)
            for _ in range(watchers):
                slow += [await stack.enter_async_context(feed.watch(frozenset(), seconds)) for seconds in (2, 60)]
            begun = held()
            await asyncio.sleep(5)
            taken = held()
            for watcher in slow[:2] + slow[-2:]:
                assert set(names) == {(await watcher.next()).decode().split()[0] for _ in names}
        return max(begun, taken)

    assert run(memory(6)) - run(memory(1)) <= 5 * 2 * 5_000


def test_containers_that_come_and_go_leave_nothing_with_a_watcher_who_does_not_read() -> None:
    async def main() -> None:
        async with feeding(SampledBackend(), "a") as feed, feed.watch(frozenset(), 0.5) as watcher:
            for number in range(100):
                feed.runs(f"c{number}", f"b{number}", None)
                await asyncio.sleep(2)
                feed.ended(f"c{number}")
            feed.runs("b", "b", None)
            await asyncio.sleep(2)
            assert {"a", "b"} == {(await watcher.next()).decode().split()[0] for _ in range(2)}
            assert 2 == len(watcher._states)

    run(main())


def test_watchers_of_a_slow_stream_who_come_and_go_leave_nothing_behind() -> None:
    async def main() -> None:
        async with feeding(SampledBackend(), *(f"c{i}" for i in range(50))) as feed:
            for _ in range(100):
                await collect(feed, 3600, 3)
            assert len(feed._order) <= 2 * 50

    run(main())


def test_a_watcher_who_is_late_receives_no_figures_of_a_bot_that_it_does_not_watch() -> None:
    """Another container gets the number of one that has ended, and is watched by somebody else."""

    async def main() -> None:
        async with (
            feeding(SampledBackend(), "a") as feed,
            feed.watch(frozenset({"a"}), 0.5) as late,
            feed.watch(frozenset({"b"}), 0.5),
        ):
            await asyncio.sleep(2)
            feed.ended("a")
            feed.runs("b", "b", None)
            await asyncio.sleep(2)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(2):
                    await late.next()

    run(main())


def test_a_pace_lets_a_step_go_at_once_the_rest_in_time_and_those_who_left_take_no_turn() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        pace, went = Pace(per_second=100, step=10), []
        begin = loop.time()

        async def turn() -> None:
            await pace.turn()
            went.append(round(loop.time() - begin, 3))

        tasks = [asyncio.create_task(turn()) for _ in range(40)]
        await asyncio.sleep(0)
        for task in tasks[10:20]:
            task.cancel()
        await asyncio.wait(tasks)
        return went

    assert [0.0] * 10 + [0.1] * 10 + [0.2] * 10 == run(main())
