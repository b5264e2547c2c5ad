"""Figures for callers that do not watch: recent, shared, in time, and within the bound of samples."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from container_manager.backends.sampling import SAMPLE_TIMEOUT_SECONDS
from container_manager.model import RawSample
from container_manager.stats import current as stats_current
from container_manager.stats import sampler as stats_sampler
from container_manager.stats.current import CurrentStats
from container_manager.stats.feed import StatsFeed
from container_manager.stats.running import Running
from tests.unit.sampled_backend import BEGIN, SampledBackend, collect, encoded, feeding, run

ALL: frozenset[str] = frozenset()


@asynccontextmanager
async def current(backend: SampledBackend, *running: str) -> AsyncIterator[tuple[CurrentStats, StatsFeed]]:
    """The bots of ``running`` run, each in a container of the same name."""
    async with feeding(backend, *running) as feed:
        stats = CurrentStats(feed._sampler, feed, encoded)
        try:
            yield stats, feed
        finally:
            await stats.close()


async def names(stats: CurrentStats, max_age_seconds: float, *bots: str) -> list[str]:
    """The containers in the answer."""
    return [each.decode().split()[0] for _, each in await stats.figures(frozenset(bots), max_age_seconds)]


async def times(stats: CurrentStats, max_age_seconds: float) -> list[float]:
    """When the samples in the answer were taken, on the loop's clock."""
    return [int(each.split()[1]) / 1e9 for _, each in await stats.figures(ALL, max_age_seconds)]


def now() -> float:
    return asyncio.get_running_loop().time()


def test_the_first_figures_come_from_two_samples_half_a_second_apart() -> None:
    backend = SampledBackend()

    async def main() -> None:
        async with current(backend, "a", "b", "c") as (stats, _):
            assert ["a", "c"] == sorted(await names(stats, 5, "a", "c", "absent"))
            assert pytest.approx(BEGIN + 0.506, abs=0.001) == now()

    run(main())
    assert {"a": 2, "c": 2} == Counter(name for _, name in backend.requests)


def test_figures_are_kept_for_their_age_and_then_taken_anew() -> None:
    backend = SampledBackend()

    async def main() -> None:
        async with current(backend, "a") as (stats, _):
            first = await times(stats, 5)
            for _ in range(4):
                await asyncio.sleep(1)
                assert first == await times(stats, 5)
            assert 2 == backend.count("a")
            await asyncio.sleep(1)
            assert first < await times(stats, 5)

    run(main())
    assert 4 == backend.count("a")


def test_figures_of_a_watcher_are_used() -> None:
    backend = SampledBackend()

    async def main() -> None:
        async with current(backend, "a") as (stats, feed):
            watching = asyncio.create_task(collect(feed, 2, 60))
            await asyncio.sleep(10)
            before = backend.count("a")
            (taken,) = await times(stats, 3)
            assert now() - 3 <= taken
            assert before == backend.count("a")
            watching.cancel()
            await asyncio.wait([watching])

    run(main())


@pytest.mark.parametrize("max_age_seconds", [0, 0.1, 0.3, 1, 5])
@pytest.mark.parametrize("seconds", [0.003, 0.2, 0.6])
@pytest.mark.parametrize("interval", [None, 0.5, 2, 10])
def test_no_sample_is_older_than_its_caller_allows_whenever_that_one_comes(
    max_age_seconds: float, seconds: float, interval: float | None
) -> None:
    """Callers come at any moment of the samples of others, and of a watcher."""
    backend = SampledBackend(seconds)

    async def main() -> None:
        async with current(backend, "a") as (stats, feed):

            async def call(after: float) -> None:
                await asyncio.sleep(after)
                oldest = now() - max_age_seconds
                (taken,) = await times(stats, max_age_seconds)
                assert oldest <= taken <= now()

            watching = [] if interval is None else [asyncio.create_task(collect(feed, interval, 30))]
            await asyncio.gather(*(call(number * 0.037) for number in range(200)))
            await asyncio.gather(*watching)

    run(main())


def test_callers_share_samples() -> None:
    backend = SampledBackend()
    bots = [f"c{number}" for number in range(100)]

    async def main() -> None:
        async with current(backend, *bots) as (stats, _):
            for answer in await asyncio.gather(*(names(stats, 0) for _ in range(50))):
                assert bots == answer
            assert now() <= BEGIN + 1

    run(main())
    assert 2 * 100 == len(backend.requests)


@pytest.mark.parametrize("beat", [None, 1.0])
def test_a_hundred_bots_are_sampled_in_time_also_by_an_engine_that_samples_once_a_second(beat: float | None) -> None:
    backend = SampledBackend()
    backend.beat = beat
    bots = [f"c{number}" for number in range(100)]

    async def main() -> None:
        async with current(backend, *bots) as (stats, _):
            assert bots == await names(stats, 0)
            assert now() <= BEGIN + 2.5

    run(main())


def test_a_container_that_hangs_is_left_out_and_delays_the_answer_by_no_more_than_the_patience() -> None:
    backend = SampledBackend()
    bots = [f"c{number}" for number in range(100)]
    backend.hanging = set(bots[:10])

    async def main() -> None:
        async with current(backend, *bots) as (stats, _):
            assert bots[10:] == await names(stats, 0)
            assert now() <= BEGIN + 2.5
            await asyncio.sleep(0.3)
            assert bots[10:] == await names(stats, 0), "also while the samples of the others still hang"

    run(main())


def test_bots_that_give_no_sample_delay_no_other_bots_figures_and_have_figures_when_they_answer() -> None:
    """Many more than a group. The first time-out of each takes a place from others."""
    backend = SampledBackend()
    hanging, others = [f"h{number}" for number in range(1_000)], [f"c{number}" for number in range(300)]
    backend.hanging = set(hanging)

    async def main() -> None:
        async with current(backend, *hanging, *others) as (stats, _):
            await names(stats, 0)
            await asyncio.sleep(60)
            for _ in range(10):
                begin = now()
                assert set(others) == set(await names(stats, 0))
                assert now() <= begin + 2 * stats_current.PATIENCE_SECONDS
            backend.hanging.clear()
            await asyncio.sleep(2 * SAMPLE_TIMEOUT_SECONDS)
            begin = now()
            assert {*hanging, *others} == set(await names(stats, 0))
            assert now() <= begin + 5

    run(main())


def test_a_container_without_samples_is_left_out_at_once() -> None:
    backend = SampledBackend()

    async def main() -> None:
        async with current(backend, "a") as (stats, _):
            backend.go_away()
            assert [] == await names(stats, 5)
            assert now() <= BEGIN + 0.1
            backend.come_back()
            await asyncio.sleep(stats_sampler.FRESH_SECONDS)
            assert ["a"] == await names(stats, 5)

    run(main())


def test_the_bound_of_samples_holds_for_all_callers_together() -> None:
    backend = SampledBackend()
    bots = [f"c{number}" for number in range(2_000)]

    async def main() -> None:
        async with current(backend, *bots) as (stats, _):
            answers = await asyncio.gather(*(names(stats, 0, *bots[i::2], *bots[i::3]) for i in range(6)))
            assert all(len(answer) >= 1_000 for answer in answers)

    run(main())
    moments = Counter(at for at, _ in backend.requests)
    assert max(moments.values()) <= stats_sampler._SAMPLES_AT_ONCE
    taken = [at for at, _ in backend.requests]
    assert len(taken) <= (taken[-1] - taken[0]) * stats_sampler.SAMPLES_PER_SECOND + stats_sampler._SAMPLES_AT_ONCE


def test_callers_for_thousands_look_at_them_in_small_steps_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """They share samples, and so continue at the same moment."""
    bots = [f"c{number}" for number in range(2_000)]
    looks: Counter[float] = Counter()
    since = stats_current._since

    def counted(running: Running, time: float) -> bytes | None:
        looks[now()] += 1
        return since(running, time)

    monkeypatch.setattr(stats_current, "_since", counted)

    async def main() -> None:
        async with current(SampledBackend(), *bots) as (stats, _):
            assert [bots] * 50 == await asyncio.gather(*(names(stats, 20) for _ in range(50)))

    run(main())
    assert 50 * 2 * 2_000 == looks.total()
    assert max(looks.values()) <= stats_current._LOOKS_AT_ONCE * stats_current._STEPS_AT_ONCE


def test_a_call_for_few_is_in_time_beside_one_for_thousands() -> None:
    few, many = [f"f{number}" for number in range(100)], [f"m{number}" for number in range(5_000)]

    async def main() -> None:
        async with current(SampledBackend(), *few, *many) as (stats, _):
            large = asyncio.create_task(names(stats, 20, *many))
            await asyncio.sleep(0.01)
            assert 100 == len(await names(stats, 0, *few))
            assert now() <= BEGIN + 2.5
            assert 5_000 == len(await large)
            assert now() <= BEGIN + 20

    run(main())


def test_figures_of_a_run_that_has_ended_are_not_given() -> None:
    backend = SampledBackend()

    async def main() -> None:
        async with current(backend, "a") as (stats, feed):
            await names(stats, 5)
            feed.ended("a")
            assert [] == await names(stats, 5)
            feed.runs("a", "a", None)
            restarted = now()
            assert restarted < (await times(stats, 5))[0]
            # The view may miss the moment between two runs.
            backend.restarted["a"] = restarted = now()
            feed.runs("a", "a", backend.started("a"))
            assert restarted < (await times(stats, 5))[0]

    run(main())


@pytest.mark.parametrize("after", [0.1, 0.3, 0.45])
def test_a_restart_between_two_samples_gives_figures_of_the_new_run(after: float) -> None:
    backend = SampledBackend()

    async def main() -> None:
        async with current(backend, "a") as (stats, feed):
            asking = asyncio.create_task(times(stats, 0))
            await asyncio.sleep(after)
            backend.restarted["a"] = now()
            feed.runs("a", "a", backend.started("a"))
            assert now() < (await asking)[0]

    run(main())


def test_a_container_that_ends_and_runs_again_while_it_is_sampled_is_sampled_for_its_new_run() -> None:
    backend = SampledBackend()

    async def main() -> None:
        async with current(backend, "a") as (stats, feed):
            asking = asyncio.create_task(times(stats, 0))
            await asyncio.sleep(0.1)
            feed.ended("a")
            feed.runs("a", "a", None)
            assert 1 == len(await times(stats, 0))
            await asking

    run(main())


def test_a_sample_from_before_a_restart_that_comes_after_it_is_not_given() -> None:
    backend = SampledBackend()

    async def late(container_id: str) -> RawSample | None:
        sample = await backend.sample(container_id)
        await asyncio.sleep(0.2)
        return sample

    async def main() -> None:
        async with feeding(backend, "a") as feed:
            stats = CurrentStats(stats_sampler.StatsSampler(late), feed, encoded)
            asking = asyncio.create_task(times(stats, 0))
            await asyncio.sleep(0.8)
            assert 2 == backend.count("a")
            backend.restarted["a"] = now()
            feed.runs("a", "a", backend.started("a"))
            assert now() < (await asking)[0]

    run(main())


def test_a_caller_that_leaves_takes_the_samples_from_nobody_and_leaves_nothing_behind() -> None:
    backend = SampledBackend()

    async def main() -> None:
        async with current(backend, "a") as (stats, _):
            leaving = asyncio.create_task(names(stats, 0))
            await asyncio.sleep(0.1)
            staying = asyncio.create_task(names(stats, 0))
            await asyncio.sleep(0.1)
            leaving.cancel()
            with suppress(asyncio.CancelledError):
                await leaving
            assert ["a"] == await staying
            await asyncio.sleep(0)
            assert ({}, set()) == (stats._takings, stats._tasks)

    run(main())
    assert (2, 0) == (len(backend.requests), backend.cancelled)


def test_close_ends_what_is_under_way() -> None:
    async def main() -> None:
        async with current(SampledBackend(), "a") as (stats, _):
            before = asyncio.all_tasks()
            # The second one is too late to share the sample of the first one.
            asking = [asyncio.create_task(names(stats, 0))]
            await asyncio.sleep(0.4)
            asking.append(asyncio.create_task(names(stats, 0)))
            await asyncio.sleep(0.05)
            assert 2 == len(stats._tasks)
            await stats.close()
            assert [[], []] == await asyncio.gather(*asking)
            assert before == asyncio.all_tasks()
            assert {} == stats._takings

    run(main())


def test_a_sample_of_a_broken_clock_leaves_the_container_out() -> None:
    same = RawSample(1, 1, 1, 1, 1, 1, 1, 1)

    async def main() -> None:
        backend = SampledBackend()

        async def take(container_id: str) -> RawSample:
            await backend.sample(container_id)
            return same

        async with feeding(backend, "a") as feed:
            stats = CurrentStats(stats_sampler.StatsSampler(take), feed, encoded)
            assert [] == await names(stats, 0)
            assert 3 == backend.count("a")
            await asyncio.sleep(1)

    run(main())


def test_a_thousand_callers_cost_a_container_that_hangs_one_call_each_and_not_one_for_every_container() -> None:
    """They all go on at the same moment: what each adds to each container makes that moment long."""
    backend, containers = SampledBackend(), [f"c{number}" for number in range(50)]
    backend.hanging = set(containers)

    async def main() -> None:
        async with current(backend, *containers) as (stats, _):
            callers = [asyncio.ensure_future(names(stats, 0)) for _ in range(1_000)]
            await asyncio.sleep(0.1)
            waiting: int = sum(len(getattr(task, "_callbacks", None) or ()) for task in stats._tasks)
            assert waiting <= 1_000 + len(stats._tasks)
            assert [[]] * 1_000 == await asyncio.gather(*callers)

    run(main())
