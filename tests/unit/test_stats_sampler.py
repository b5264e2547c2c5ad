"""Samples are shared by all readers, limited in number, and abandoned when they hang."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial

import pytest

from container_manager.backends import sampling
from container_manager.backends.sampling import sample
from container_manager.engine.async_client import AsyncEngineClient
from container_manager.model import RawSample
from container_manager.stats import sampler as stats_sampler
from container_manager.stats.running import Running
from container_manager.stats.sampler import StatsSampler
from tests.support.fake_engine import Answer, Cut, FakeEngine, Hang, Json, error
from tests.unit.sampled_backend import SampledBackend, run
from tests.unit.test_stats import document


def container(container_id: str) -> Running:
    return Running(container_id, "bot", 0, None)


async def taken(sampler: StatsSampler, container_id: str) -> RawSample | None:
    return await (await sampler.begin(container(container_id)))


def test_all_who_ask_at_once_share_one_request() -> None:
    backend = SampledBackend()

    async def main() -> None:
        sampler = StatsSampler(backend.sample)
        samples = await asyncio.gather(*(taken(sampler, "a") for _ in range(50)))
        assert {samples[0]} == set(samples)
        assert samples[0] is not None

    run(main())
    assert 1 == len(backend.requests)


def test_a_sample_is_shared_while_fresh_and_then_taken_anew() -> None:
    backend = SampledBackend()

    async def main() -> None:
        sampler = StatsSampler(backend.sample)
        first = await taken(sampler, "a")
        await asyncio.sleep(0.2)
        assert first is await taken(sampler, "a")
        await asyncio.sleep(0.1)
        assert first != await taken(sampler, "a")

    run(main())
    assert 2 == len(backend.requests)


def test_a_container_is_never_asked_about_twice_at_once() -> None:
    backend = SampledBackend(seconds=2)

    async def main() -> None:
        sampler = StatsSampler(backend.sample)
        samples = []
        for _ in range(10):
            samples.append(await sampler.begin(container("a")))
            await asyncio.sleep(0.15)
        await asyncio.gather(*samples)
        await asyncio.sleep(0)
        await taken(sampler, "a")

    run(main())
    assert (1, 2) == (backend.most, len(backend.requests))


def test_requests_at_once_are_bounded() -> None:
    backend = SampledBackend(seconds=1)

    async def main() -> None:
        sampler = StatsSampler(backend.sample)
        assert None not in await asyncio.gather(*(taken(sampler, str(i)) for i in range(300)))

    run(main())
    assert stats_sampler.REQUESTS_AT_ONCE == backend.most


@pytest.mark.parametrize("failure", [Cut(), Hang(), error(404, "No such container")])
def test_a_failure_is_no_sample(engine: FakeEngine, failure: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "SAMPLE_TIMEOUT_SECONDS", 0.2)
    engine.on("GET", "/containers/a/stats", failure)

    async def main() -> None:
        async with asyncio.timeout(60):
            client = AsyncEngineClient(engine.url, timeout_seconds=600)
            assert await taken(StatsSampler(partial(sample, client)), "a") is None
            await client.close()

    asyncio.run(main())
    assert engine.seen("GET", "/containers/a/stats")


def test_samples_of_a_second_are_bounded_and_begin_in_small_steps_in_the_order_of_requests() -> None:
    backend = SampledBackend()
    names = [f"c{i}" for i in range(2_500)]

    async def main() -> None:
        sampler = StatsSampler(backend.sample)
        await asyncio.gather(*(taken(sampler, name) for name in names))

    run(main())
    assert names == [name for _, name in backend.requests]
    times = [at for at, _ in backend.requests]
    assert max(Counter(times).values()) <= stats_sampler._SAMPLES_AT_ONCE
    assert times[-1] - times[0] >= (2_500 - stats_sampler._SAMPLES_AT_ONCE) / stats_sampler.SAMPLES_PER_SECOND - 1e-6


def test_a_request_cancelled_while_it_waits_takes_no_place() -> None:
    backend = SampledBackend()

    async def main() -> None:
        sampler = StatsSampler(backend.sample)
        for _ in range(2 * stats_sampler.REQUESTS_AT_ONCE):
            asking = [asyncio.create_task(taken(sampler, str(i))) for i in range(stats_sampler._SAMPLES_AT_ONCE + 1)]
            await asyncio.sleep(0)
            asking[-1].cancel()
            await asyncio.wait(asking)
            await asyncio.sleep(1)
        assert await taken(sampler, "a") is not None

    run(main())


@pytest.mark.filterwarnings("default")
def test_a_fault_in_a_backend_is_no_sample_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(_: str) -> RawSample | None:
        raise KeyError("a bug")

    async def main() -> None:
        assert await taken(StatsSampler(fail), "a") is None

    run(main())
    assert ["unexpected error: container a could not be sampled"] == [each.getMessage() for each in caplog.records]


def test_a_hanging_container_is_given_up_and_holds_up_no_other() -> None:
    backend = SampledBackend()
    backend.hanging.add("h")

    async def main() -> None:
        sampler = StatsSampler(backend.sample)
        hanging = await sampler.begin(container("h"))
        async with asyncio.timeout(0.1):
            assert None not in await asyncio.gather(taken(sampler, "a"), taken(sampler, "b"))
        async with asyncio.timeout(sampling.SAMPLE_TIMEOUT_SECONDS):
            assert await hanging is None

    run(main())


def test_containers_that_give_no_sample_delay_no_other_and_wait_for_each_other() -> None:
    backend = SampledBackend()
    hanging = [container(f"h{i}") for i in range(400)]
    backend.hanging = {each.container_id for each in hanging}

    async def main() -> None:
        sampler = StatsSampler(backend.sample)
        for each in hanging:
            await sampler.begin(each)
        await asyncio.sleep(2 * sampling.SAMPLE_TIMEOUT_SECONDS)
        async with asyncio.timeout(1):
            again = [await sampler.begin(each) for each in hanging]
            assert None not in await asyncio.gather(*(taken(sampler, str(i)) for i in range(100)))
        await asyncio.sleep(1)
        assert stats_sampler.UNRESPONSIVE_AT_ONCE == backend.now
        backend.hanging.clear()
        async with asyncio.timeout(sampling.SAMPLE_TIMEOUT_SECONDS):
            samples = await asyncio.gather(*again)
        assert stats_sampler.UNRESPONSIVE_AT_ONCE == samples.count(None), "the others answer in their turn"
        assert {False} == {each.unresponsive for each in hanging[stats_sampler.UNRESPONSIVE_AT_ONCE :]}

    run(main())
    assert stats_sampler.REQUESTS_AT_ONCE == backend.most


def test_a_container_that_has_stopped_is_not_unresponsive() -> None:
    """Its requests fail at once, so that it need not wait behind those that hang."""
    backend = SampledBackend()
    backend.go_away()
    stopped = container("a")

    async def main() -> None:
        assert await (await StatsSampler(backend.sample).begin(stopped)) is None
        assert not stopped.unresponsive

    run(main())


def test_a_cancelled_request_takes_the_sample_from_nobody() -> None:
    backend = SampledBackend()

    async def main() -> None:
        sampler = StatsSampler(backend.sample)
        leaving, staying = await sampler.begin(container("a")), await sampler.begin(container("a"))
        await asyncio.sleep(0.001)
        leaving.cancel()
        assert await staying is not None

    run(main())
    assert (1, 0) == (len(backend.requests), backend.cancelled)


def test_samples_are_forgotten() -> None:
    backend = SampledBackend()
    backend.hanging.add("h")

    async def main() -> None:
        sampler = StatsSampler(backend.sample)
        await asyncio.gather(*(taken(sampler, name) for name in "abch"))
        await asyncio.sleep(stats_sampler.FRESH_SECONDS)
        assert {} == sampler._samples

    run(main())


def test_close_ends_what_is_under_way() -> None:
    backend = SampledBackend()
    backend.hanging.add("h")

    async def main() -> None:
        sampler = StatsSampler(backend.sample)
        hanging = await sampler.begin(container("h"))
        await asyncio.sleep(0)
        await sampler.close()
        assert {asyncio.current_task()} <= asyncio.all_tasks()
        await asyncio.sleep(0)
        assert hanging.cancelled()

    run(main())
    assert (0, 1) == (backend.now, backend.cancelled)


def test_the_request_and_faults_over_http(engine: FakeEngine) -> None:
    engine.on("GET", "/containers/a/stats", Json(document()))
    engine.on("GET", "/containers/b/stats", error(500, "some fault"))
    engine.on("GET", "/containers/c/stats", Cut())

    async def main() -> list[bool]:
        client = AsyncEngineClient(engine.url, timeout_seconds=5)
        sampler = StatsSampler(partial(sample, client))
        samples = await asyncio.gather(*(taken(sampler, name) for name in "abcd"))
        await client.close()
        return [sample is not None for sample in samples]

    assert [True, False, False, False] == asyncio.run(main())
    assert {"stream": "false", "one-shot": "true"} == engine.seen("GET", "/containers/a/stats")[0].query
