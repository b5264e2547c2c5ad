"""A stream of figures keeps its interval, whatever containers, the engine and other readers do."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from contextlib import AsyncExitStack
from itertools import pairwise

import pytest

from container_manager.backends import sampling
from container_manager.rpc import observer_codec as codec
from container_manager.stats.series import rounded_interval
from tests.unit.sampled_backend import BEGIN, Figures, SampledBackend, alone, collect, feeding, run


def times(figures: Figures, name: str) -> list[float]:
    return [seconds for seconds, container_id in figures if container_id == name]


def gaps(seconds: Iterable[float]) -> list[float]:
    return [round(after - before, 2) for before, after in pairwise(seconds)]


@pytest.mark.parametrize(
    ("asked", "kept"),
    [(0.5, 0.5), (0.7, 1), (2, 2), (2.1, 3), (4.9, 5), (5.1, 10), (59.5, 60), (60, 60), (61, 120), (3600, 3600)],
)
def test_an_interval_is_rounded_up_so_that_watchers_share_it(asked: float, kept: float) -> None:
    assert kept == rounded_interval(asked)


def test_whatever_intervals_are_asked_for_figures_of_few_are_kept() -> None:
    asked = [codec.MIN_INTERVAL_SECONDS + tenths / 10 for tenths in range(35_996)]
    assert codec.MAX_INTERVAL_SECONDS == asked[-1]

    async def main() -> int:
        async with feeding(SampledBackend(), "a") as feed, AsyncExitStack() as stack:
            for seconds in asked[::7]:
                await stack.enter_async_context(feed.watch(frozenset(), seconds))
            return len(feed._series)

    assert run(main()) <= 20


def test_the_first_figure_comes_within_a_second_and_then_one_in_each_interval() -> None:
    first, *later = times(alone(SampledBackend(), 2, 20, "a"), "a")
    assert 0.51 == first
    assert 0.2 < later[0] - first < 2.3, "a tick just after the first figure is left out"
    assert {2.0} == set(gaps(later))
    assert 9 <= len(later) <= 10


def test_the_beat_is_kept_however_long_samples_take() -> None:
    _, *later = times(alone(SampledBackend(seconds=0.4), 1, 600, "a"), "a")
    assert {1.0} == set(gaps(later))
    assert 598 <= len(later) <= 600


def test_containers_are_sampled_all_over_the_interval_and_not_at_one_moment() -> None:
    backend = SampledBackend()
    alone(backend, 2, 60, *(f"c{i}" for i in range(200)))
    tenths = Counter(int((at - BEGIN) * 10) for at, _ in backend.requests if 30 <= at - BEGIN < 50)
    assert 200 * 10 == tenths.total()
    assert max(tenths.values()) <= 2 * 200 * 0.1 / 2, "at most twice the average"


def test_watchers_of_one_interval_share_samples_whenever_they_came() -> None:
    backend = SampledBackend()
    names = [f"c{i}" for i in range(10)]

    async def main() -> list[Figures]:
        async with feeding(backend, *names) as feed:

            async def later(seconds: float) -> Figures:
                await asyncio.sleep(seconds)
                return await collect(feed, 2, 30)

            return await asyncio.gather(*(later(i * 0.11) for i in range(50)))

    for figures in run(main()):
        assert set(names) == {container_id for _, container_id in figures}
        assert all(max(gaps(times(figures, name))) <= 2.31 for name in names)
    # 35.4 s in all: 17 or 18 ticks, and the first two samples.
    assert all(backend.count(name) <= 18 + 2 for name in names)


def test_ticks_of_several_intervals_share_their_samples() -> None:
    backend = SampledBackend()

    async def main() -> None:
        async with feeding(backend, "a", "b", "c") as feed:
            await asyncio.gather(*(collect(feed, interval, 100) for interval in (0.5, 1, 2, 5, 10)))

    run(main())
    assert all(backend.count(name) <= 100 * 2 + 2 for name in "abc")


def test_a_watcher_who_comes_later_begins_with_recent_figures_and_adds_none_to_those_of_others() -> None:
    backend = SampledBackend()

    async def main() -> tuple[Figures, Figures]:
        async with feeding(backend, "a") as feed:
            before = asyncio.create_task(collect(feed, 60, 200))
            await asyncio.sleep(90)
            return await collect(feed, 60, 100), await before

    late, early = run(main())
    assert late[0][0] < 0.1
    assert {60.0} == set(gaps(times(early, "a")[1:]))
    assert {60.0} == set(gaps(times(late, "a")[1:]))


def test_a_watcher_of_a_few_bots_receives_theirs_alone() -> None:
    backend = SampledBackend()

    async def main() -> tuple[Figures, Figures]:
        async with feeding(backend, "a", "b", "c") as feed:
            both = await asyncio.gather(collect(feed, 1, 10, "a", "d"), collect(feed, 1, 10, "a", "b"))
            return both[0], both[1]

    figures, others = run(main())
    assert {"a"} == {container_id for _, container_id in figures}
    assert {"a", "b"} == {container_id for _, container_id in others}
    assert 0 == backend.count("c")


def test_a_hundred_containers_at_two_seconds_on_an_engine_that_answers_once_a_second() -> None:
    backend = SampledBackend()
    backend.beat = 1.0045
    names = [f"c{i}" for i in range(100)]
    figures = alone(backend, 2, 20, *names)
    first = {container_id: seconds for seconds, container_id in reversed(figures)}
    assert set(names) == first.keys()
    assert max(first.values()) <= 2 * 1.0045 + 0.2
    assert all(max(gaps(times(figures, name))) < 3.1 for name in names)


def test_a_hanging_container_keeps_no_other_from_its_beat() -> None:
    backend = SampledBackend()
    backend.hanging.add("h")
    figures = alone(backend, 2, 20, "h", "a", "b")
    assert {"a", "b"} == {container_id for _, container_id in figures}
    for name in "ab":
        assert {2.0} == set(gaps(times(figures, name)[1:]))
    assert 3 <= backend.count("h") <= 4, "once after each time-out"


def test_bots_that_give_no_sample_delay_no_other_bots_figures_and_have_figures_when_they_answer() -> None:
    """Many more than the places for samples. The first time-out of each takes a place from others."""
    backend = SampledBackend()
    hanging, others = [f"h{i}" for i in range(400)], [f"c{i}" for i in range(100)]
    backend.hanging = set(hanging)

    async def main() -> tuple[Figures, Figures]:
        async with feeding(backend, *hanging, *others) as feed:
            await collect(feed, 2, 20)
            beside = await collect(feed, 2, 60)
            backend.hanging.clear()
            await asyncio.sleep(sampling.SAMPLE_TIMEOUT_SECONDS)
            return beside, await collect(feed, 2, 20)

    beside, after = run(main())
    assert set(others) == {container_id for _, container_id in beside}
    for name in others:
        assert {2.0} == {round(gap, 1) for gap in gaps(times(beside, name)[1:])}
        assert times(beside, name)[-1] > 58
    for name in (*hanging, *others):
        assert {2.0} == {round(gap, 1) for gap in gaps(times(after, name)[1:])}
        assert len(times(after, name)) >= 9


def test_a_container_that_starts_later_appears_at_once_and_one_that_stops_is_not_asked_about_again() -> None:
    backend = SampledBackend()

    async def main() -> Figures:
        async with feeding(backend, "a") as feed:
            loop = asyncio.get_running_loop()
            loop.call_later(5, feed.runs, "b", "b", None)
            loop.call_later(9, feed.ended, "a")
            return await collect(feed, 3600, 20) + await collect(feed, 2, 20)

    figures = run(main())
    assert 5.51 == times(figures, "b")[0]
    assert max(at for at, container_id in backend.requests if container_id == "a") < BEGIN + 9
    assert len(times(figures, "b")) > 9


@pytest.mark.parametrize("seconds", [0.003, 3])
def test_a_container_that_was_away_is_a_new_one(seconds: float) -> None:
    """Its CPU percentage must not span the time that it was away, also if a sample was under way all that time."""

    async def main() -> Figures:
        async with feeding(SampledBackend(seconds), "a") as feed:
            loop = asyncio.get_running_loop()
            loop.call_later(7.6, feed.ended, "a")
            loop.call_later(9, feed.runs, "a", "a", None)
            return await collect(feed, 3600, 30)

    seconds_of = times(run(main()), "a")
    assert 2 == len(seconds_of)
    assert seconds_of[1] > 9.5


def test_nothing_is_sampled_without_containers_or_without_watchers() -> None:
    backend = SampledBackend()

    async def main() -> None:
        async with feeding(backend) as feed:
            await collect(feed, 0.5, 10)
            assert [] == backend.requests
            feed.runs("a", "a", None)
            await asyncio.sleep(10)
            assert [] == backend.requests
            await collect(feed, 0.5, 10)
            asked = len(backend.requests)
            assert asked > 19
            await asyncio.sleep(100)
            assert asked == len(backend.requests)

    run(main())


def test_a_watcher_who_leaves_disturbs_no_other_and_takes_what_it_alone_watched_along() -> None:
    backend = SampledBackend(seconds=0.3)

    async def main() -> Figures:
        async with feeding(backend, "a", "b") as feed:
            staying = asyncio.create_task(collect(feed, 1, 10, "a"))
            await collect(feed, 1, 0.1, "a", "b")
            return await staying

    _, *later = times(run(main()), "a")
    assert {1.0} == set(gaps(later))
    assert 0 == backend.cancelled
    assert 1 == backend.count("b")


def test_a_slow_reader_skips_figures_and_no_container() -> None:
    backend = SampledBackend()

    async def main() -> list[str]:
        async with feeding(backend, "a", "b") as feed, feed.watch(frozenset(), 1) as watcher:
            for _ in range(3):
                await watcher.next()
            await asyncio.sleep(1000)
            now = asyncio.get_running_loop().time()
            waiting = [(await watcher.next()).decode().split() for _ in range(2)]
            assert now == asyncio.get_running_loop().time(), "they were ready"
            assert all(now - 1.1 <= int(time_ns) / 1e9 <= now for _, time_ns in waiting), "the newest of each"
            return [container_id for container_id, _ in waiting]

    assert ["a", "b"] == sorted(run(main()))


@pytest.mark.parametrize("age", [0.05, 500])
def test_after_a_restart_the_figures_keep_their_beat_and_none_is_false(age: float) -> None:
    """Also for a young container, whose counter does not decrease; the percentages are checked on the way."""
    backend = SampledBackend()
    backend.restarted["a"] = BEGIN - age

    async def main() -> Figures:
        async with feeding(backend, "a") as feed:
            loop = asyncio.get_running_loop()

            def restart() -> None:
                backend.restarted["a"] = loop.time()
                feed.runs("a", "a", backend.started("a"))

            loop.call_later(0.7, restart)
            return await collect(feed, 2, 20)

    assert {2.0} == set(gaps(times(run(main()), "a")[1:]))


def test_after_a_restart_that_is_not_known_there_is_no_false_figure() -> None:
    """The percentages are checked on the way."""
    backend = SampledBackend()

    async def main() -> Figures:
        async with feeding(backend, "a") as feed:
            loop = asyncio.get_running_loop()
            loop.call_later(5, lambda: backend.restarted.update(a=loop.time()))
            return await collect(feed, 2, 20)

    assert 9 <= len(run(main())) <= 11


def test_figures_come_again_soon_when_the_engine_does_also_in_a_slow_stream() -> None:
    backend = SampledBackend()
    backend.go_away()

    async def main() -> Figures:
        async with feeding(backend, "a") as feed:
            asyncio.get_running_loop().call_later(100, backend.come_back)
            return await collect(feed, 3600, 200)

    figures = run(main())
    assert 1 == len(figures)
    assert 100 < figures[0][0] < 103
    assert pytest.approx(52, abs=1) == len(backend.requests)
