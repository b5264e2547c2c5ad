"""A stream of figures keeps its interval, whatever containers, the engine and other readers do."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing
from itertools import pairwise

import pytest

from container_manager.stats.sampler import StatsSampler, watch
from tests.unit.sampled_backend import BEGIN, Figures, SampledBackend, collect, run


def test_the_first_figure_comes_within_a_second_and_then_at_every_tick() -> None:
    figures = run(collect(watch(StatsSampler(SampledBackend().sample), lambda: ["a"], 2), 8))
    assert [0.51, 1.9, 3.9, 5.9, 7.9] == [seconds for seconds, _ in figures]


def test_a_tick_just_after_the_first_figure_is_left_out() -> None:
    backend = SampledBackend()
    figures = run(collect(watch(StatsSampler(backend.sample), lambda: ["a"], (BEGIN + 0.6) / 1000), 3))
    assert [0.51, 1.6, 2.6] == [seconds for seconds, _ in figures]
    assert 4 == len(backend.requests)


def test_the_beat_is_kept_however_long_samples_take() -> None:
    figures = run(collect(watch(StatsSampler(SampledBackend(seconds=0.4).sample), lambda: ["a"], 1), 600))
    assert pytest.approx([0.9 + 0.4 + i for i in range(599)]) == [seconds for seconds, _ in figures]


def test_watchers_who_came_at_different_times_share_samples() -> None:
    backend = SampledBackend()
    containers = [f"c{i}" for i in range(10)]

    async def later(sampler: StatsSampler, seconds: float) -> Figures:
        await asyncio.sleep(seconds)
        return await collect(watch(sampler, lambda: containers, 2), 30)

    async def main() -> list[Figures]:
        sampler = StatsSampler(backend.sample)
        return await asyncio.gather(*(later(sampler, i * 0.11) for i in range(50)))

    for figures in run(main()):
        assert set(containers) == {container_id for _, container_id in figures}
        assert 10 * 14 <= len(figures)
    # While the readers arrive (5.5 s), at most one sample per quarter second; then 15 ticks.
    assert set(containers) == set(Counter(container_id for _, container_id in backend.requests))
    assert max(Counter(container_id for _, container_id in backend.requests).values()) <= 5.5 * 4 + 15 + 2
    in_the_middle = [at for at, container_id in backend.requests if container_id == "c0" and 8 < at - BEGIN < 28]
    assert 10 == len(in_the_middle)


def test_a_hundred_containers_at_two_seconds_on_an_engine_that_answers_once_a_second() -> None:
    backend = SampledBackend()
    backend.beat = 1.0045
    containers = [f"c{i}" for i in range(100)]
    figures = run(collect(watch(StatsSampler(backend.sample), lambda: containers, 2), 20))
    first = {container_id: seconds for seconds, container_id in reversed(figures)}
    assert set(containers) == first.keys()
    assert max(first.values()) <= 2 * 1.0045 + 0.01
    for container_id in containers:
        times = [seconds for seconds, name in figures if name == container_id]
        assert max(after - before for before, after in pairwise(times)) < 3.1


def test_a_hanging_container_keeps_no_other_from_its_beat() -> None:
    backend = SampledBackend()
    backend.hanging.add("h")
    figures = run(collect(watch(StatsSampler(backend.sample), lambda: ["h", "a", "b"], 2), 20))
    assert {"a", "b"} == {container_id for _, container_id in figures}
    assert 2 * 11 == len(figures)
    # At the start, and at the tick after each time-out.
    asked = [round(at - BEGIN, 2) for at, container_id in backend.requests if container_id == "h"]
    assert [0, 5.9, 11.9, 17.9] == asked


def test_a_container_that_starts_later_appears_and_one_that_stops_is_not_asked_about_again() -> None:
    backend = SampledBackend()
    containers = ["a"]

    async def main() -> Figures:
        loop = asyncio.get_running_loop()
        loop.call_later(5, containers.append, "b")
        loop.call_later(9, containers.remove, "a")
        return await collect(watch(StatsSampler(backend.sample), lambda: containers, 2), 20)

    figures = run(main())
    of_b = [seconds for seconds, container_id in figures if container_id == "b"]
    assert [6.41, 7.9, 9.9] == of_b[:3]
    assert max(seconds for seconds, container_id in figures if container_id == "a") < 9
    assert max(at for at, container_id in backend.requests if container_id == "a") < BEGIN + 9


def test_a_container_that_was_away_is_a_new_one() -> None:
    containers = ["a"]

    async def main() -> Figures:
        loop = asyncio.get_running_loop()
        loop.call_later(5, containers.remove, "a")
        loop.call_later(31, containers.append, "a")
        return await collect(watch(StatsSampler(SampledBackend().sample), lambda: containers, 2), 35)

    # Its CPU percentage must not span the time that it was away.
    assert [0.51, 1.9, 3.9, 32.41, 33.9] == [seconds for seconds, _ in run(main())]


def test_in_a_slow_stream_a_new_container_is_not_left_out_for_long() -> None:
    backend = SampledBackend()
    containers = ["a"]

    async def main() -> Figures:
        asyncio.get_running_loop().call_later(100, containers.append, "b")
        return await collect(watch(StatsSampler(backend.sample), lambda: containers, 3600), 3600)

    figures = run(main())
    assert ["a", "b", "a", "b"] == [container_id for _, container_id in figures]
    assert 100 < figures[1][0] < 103
    assert (3, 3) == (backend.count("a"), backend.count("b"))


def test_a_container_that_stops_and_starts_within_a_sample_is_a_new_one() -> None:
    backend = SampledBackend(seconds=4.5)
    containers = ["a"]

    async def main() -> Figures:
        loop = asyncio.get_running_loop()
        loop.call_later(1, containers.remove, "a")
        loop.call_later(3, containers.append, "a")
        return await collect(watch(StatsSampler(backend.sample), lambda: containers, 3600), 2000)

    assert [9.5] == [seconds for seconds, _ in run(main())]


def test_nothing_is_sampled_without_containers_or_without_watchers() -> None:
    backend = SampledBackend()
    containers: list[str] = []

    async def main() -> None:
        sampler = StatsSampler(backend.sample)
        await collect(watch(sampler, lambda: containers, 0.5), 10)
        assert [] == backend.requests
        containers.append("a")
        await collect(watch(sampler, lambda: containers, 0.5), 10)
        asked = len(backend.requests)
        assert asked > 19
        await asyncio.sleep(100)
        assert asked == len(backend.requests)

    run(main())


@pytest.mark.parametrize("how", ["closed", "cancelled"])
def test_a_watcher_who_leaves_disturbs_no_other(how: str) -> None:
    backend = SampledBackend(seconds=0.3)

    async def main() -> Figures:
        sampler = StatsSampler(backend.sample)
        staying = asyncio.create_task(collect(watch(sampler, lambda: ["a"], 1), 10))
        leaving = watch(sampler, lambda: ["a"], 1)
        next_figure = asyncio.ensure_future(anext(leaving))
        await asyncio.sleep(0.1)
        next_figure.cancel()
        await asyncio.wait({next_figure})
        if how == "closed":
            await leaving.aclose()
        return await staying

    figures = run(main())
    assert pytest.approx([1.1, *(2.2 + i for i in range(8))]) == [seconds for seconds, _ in figures]
    assert 0 == backend.cancelled


def test_a_slow_reader_skips_ticks_and_nothing_piles_up() -> None:
    backend = SampledBackend()

    async def main() -> list[tuple[float, str, float]]:
        time = asyncio.get_running_loop().time
        got = []
        async with aclosing(watch(StatsSampler(backend.sample), lambda: ["a", "b"], 1)) as stream:
            async for container_id, stats in stream:
                got.append((time(), container_id, stats.time_ns))
                if 3 == len(got):
                    asked = len(backend.requests)
                    await asyncio.sleep(1000)
                    assert asked == len(backend.requests)
                if 10 == len(got):
                    return got
        raise AssertionError

    got = run(main())
    stalled = got[2][0] + 1000
    # The one figure that waited, one for the container that is late, and then both at each tick.
    assert pytest.approx([0, 0.003, 1, 1, 2, 2, 3]) == [at - stalled for at, _, _ in got[3:]]
    for name in "ab":
        times = [time_ns for _, container_id, time_ns in got if container_id == name]
        assert sorted(set(times)) == times


def test_after_a_restart_the_figures_go_on_without_a_false_one() -> None:
    backend = SampledBackend()

    async def main() -> Figures:
        loop = asyncio.get_running_loop()
        loop.call_later(5, lambda: backend.restarted.update(a=loop.time()))
        return await collect(watch(StatsSampler(backend.sample), lambda: ["a"], 2), 10)

    # At 5.9 the counter has decreased; collect() checks the percentages.
    assert [0.51, 1.9, 3.9, 6.41, 7.9, 9.9] == [seconds for seconds, _ in run(main())]


@pytest.mark.parametrize("age", [0.05, 500])
def test_after_a_restart_that_is_known_the_figures_keep_their_beat_and_none_is_false(age: float) -> None:
    """Also for a young container, whose counter does not decrease; collect() checks the percentages."""
    backend = SampledBackend()
    backend.restarted["a"] = BEGIN - age

    async def main() -> Figures:
        loop = asyncio.get_running_loop()
        loop.call_later(0.7, lambda: backend.restarted.update(a=loop.time()))
        return await collect(watch(StatsSampler(backend.sample), lambda: ["a"], 2, backend.started), 6)

    assert [0.51, 1.9, 3.9, 5.9] == [seconds for seconds, _ in run(main())]


def test_figures_come_again_when_the_engine_does() -> None:
    backend = SampledBackend()
    backend.go_away()

    async def main() -> Figures:
        loop = asyncio.get_running_loop()
        loop.call_later(5, backend.come_back)
        loop.call_later(11, backend.go_away)
        loop.call_later(19, backend.come_back)
        return await collect(watch(StatsSampler(backend.sample), lambda: ["a"], 2), 24)

    assert [6.41, 7.9, 9.9, 19.9, 21.9, 23.9] == [seconds for seconds, _ in run(main())]


def test_in_a_slow_stream_what_fails_is_tried_again_soon() -> None:
    backend = SampledBackend()
    backend.go_away()

    async def main() -> Figures:
        asyncio.get_running_loop().call_later(100, backend.come_back)
        return await collect(watch(StatsSampler(backend.sample), lambda: ["a"], 3600), 200)

    figures = run(main())
    assert 1 == len(figures)
    assert 100 < figures[0][0] < 103
    assert pytest.approx(52, abs=1) == len(backend.requests)


def test_a_closed_sampler_ends_no_stream() -> None:
    backend = SampledBackend()
    backend.hanging.add("a")

    async def main() -> Figures:
        sampler = StatsSampler(backend.sample)
        watching = asyncio.create_task(collect(watch(sampler, lambda: ["a"], 2), 10))
        await asyncio.sleep(1)
        backend.hanging.clear()
        await sampler.close()
        return await watching

    assert [2.41, 3.9, 5.9, 7.9, 9.9] == [seconds for seconds, _ in run(main())]
