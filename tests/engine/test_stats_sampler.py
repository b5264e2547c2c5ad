"""The resource use of real containers, compared with the docker CLI."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import docker
import pytest
from docker.models.containers import Container

from container_manager.backends.sampling import sample
from container_manager.engine.async_client import AsyncEngineClient
from container_manager.stats.feed import StatsFeed
from container_manager.stats.figures import ContainerStats
from container_manager.stats.sampler import StatsSampler
from tests.support.calls import FOREVER
from tests.support.waiting import wait_until

Run = Callable[..., Container]
Figures = list[tuple[str, ContainerStats]]

MIB = 2**20
# A share that is available on a busy machine too.
CPUS = 0.3
BUSY = ("sh", "-c", "while :; do :; done")


@pytest.fixture
def run(engine: docker.DockerClient, test_image: str, test_labels: dict[str, str]) -> Iterator[Run]:
    """Runs a container; it is removed after the test."""
    made = []

    def run(*command: str, **options: Any) -> Container:
        container = engine.containers.create(test_image, list(command), labels=test_labels, **options)
        made.append(container)
        container.start()
        return container

    yield run
    for container in made:
        container.remove(force=True)


async def figures(url: str, containers: Collection[str], enough: Callable[[Figures], bool]) -> Figures:
    """The figures of a stream with an interval of 0.5 s, until there are enough."""
    client = AsyncEngineClient(url, timeout_seconds=60)
    sampler = StatsSampler(partial(sample, client))
    computed: Figures = []
    told: Figures = []

    def encode(_bot_id: str, container_id: str, stats: ContainerStats) -> bytes:
        computed.append((container_id, stats))
        return str(len(computed) - 1).encode()

    feed = StatsFeed(sampler, encode)
    for container_id in containers:
        feed.runs(container_id, "", None)
    try:
        async with asyncio.timeout(60), feed.watch(frozenset(), 0.5) as watcher:
            while not enough(told):
                told.append(computed[int(await watcher.next())])
    finally:
        await feed.close()
        await sampler.close()
        await client.close()
    return told


async def figures_beside_the_cli(url: str, container_id: str, times: int) -> tuple[list[ContainerStats], list[Any]]:
    """The figures while the CLI runs this many times, and the CLI's answers."""

    def ask() -> list[Any]:
        command = ["docker", "--host", url, "stats", "--no-stream", "--format", "{{json .}}", container_id]
        return [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(times)]

    cli = asyncio.create_task(asyncio.to_thread(ask))
    told = await figures(url, [container_id], lambda _: cli.done())
    return [stats for _, stats in told], await cli


def mean(values: Collection[float]) -> float:
    return sum(values) / len(values)


def cli_percent(answers: list[Any]) -> float:
    """The mean of the CLI's shares."""
    return mean([float(answer["CPUPerc"].removesuffix("%")) for answer in answers])


def in_bytes(text: str) -> float:
    """Bytes from the CLI's ``12.5MiB``."""
    match = re.fullmatch(r"([\d.]+)(B|KiB|MiB|GiB)", text.strip())
    assert match, text
    return float(match[1]) * 1024 ** ("B", "KiB", "MiB", "GiB").index(match[2])


def test_a_busy_container_shows_the_cpu_that_it_is_given(
    engine: docker.DockerClient, engine_url: str, run: Run
) -> None:
    container_id = run(*BUSY, nano_cpus=int(CPUS * 1e9), network_mode="none").id

    counted: list[tuple[int, int]] = []

    def enough(told: Figures) -> bool:
        """Whether there are five; counts with the first and the last."""
        if len(told) in (1, 5):
            counters: dict[str, Any] = engine.api.stats(container_id, stream=False, one_shot=True)
            counted.append((time.time_ns(), int(counters["cpu_stats"]["cpu_usage"]["total_usage"])))
        return len(told) == 5

    begin = time.time_ns()
    told = [stats for _, stats in asyncio.run(figures(engine_url, [container_id], enough))]
    # A busy machine gives it less than it may have.
    (since_ns, used_before), (until_ns, used) = counted
    given = 100 * (used - used_before) / (until_ns - since_ns)
    assert given < 100 * CPUS + 10
    used_told = sum(now.cpu_percent * (now.time_ns - before.time_ns) for before, now in pairwise(told))
    assert pytest.approx(given, abs=10) == used_told / (told[-1].time_ns - told[0].time_ns)
    times = [begin, *(stats.time_ns for stats in told), time.time_ns()]
    assert sorted(set(times)) == times
    assert {(0, 0)} == {(stats.network_rx_bytes, stats.network_tx_bytes) for stats in told}


@pytest.mark.skipif(shutil.which("docker") is None, reason="the docker CLI is to compare with")
def test_the_figures_are_those_of_the_cli(engine_url: str, run: Run) -> None:
    # 20 MiB that count, 20 MiB of page cache that do not count, and two processes.
    fill = "dd if=/dev/zero of=/dev/shm/a bs=1M count=20; dd if=/dev/zero of=/a bs=1M count=20"
    command = f"{fill}; sleep 100000 & echo ready; while :; do :; done"
    container = run("sh", "-c", command, nano_cpus=int(CPUS * 1e9), mem_limit="96m")
    wait_until(lambda: b"ready" in container.logs(), "the container's memory is filled")
    for _ in range(5):
        ours, theirs = asyncio.run(figures_beside_the_cli(engine_url, container.id, 3))
        assert len(ours) >= 3
        told, expected = mean([stats.cpu_percent for stats in ours]), pytest.approx(cli_percent(theirs), abs=15)
        # The CLI looks at other moments. On a busy machine, the container may have had another share of it then.
        if expected == told:
            break
    assert expected == told
    usage, limit = (in_bytes(part) for part in theirs[-1]["MemUsage"].split("/"))
    last = ours[-1]
    assert pytest.approx(usage, abs=2 * MIB) == last.memory_usage_bytes
    assert pytest.approx(20 * MIB, abs=5 * MIB) == last.memory_usage_bytes
    assert (96 * MIB, 96 * MIB) == (limit, last.memory_limit_bytes)
    assert (2, 2) == (int(theirs[-1]["PIDs"]), last.pids)


def test_network_traffic_is_reported(engine: docker.DockerClient, engine_url: str, run: Run) -> None:
    container = run(*FOREVER)
    container.reload()
    counters = "cat /sys/class/net/eth0/statistics/rx_bytes /sys/class/net/eth0/statistics/tx_bytes"
    gateway = container.attrs["NetworkSettings"]["Gateway"]

    def counted() -> list[int]:
        return [int(number) for number in container.exec_run(counters.split()).output.split()]

    def pinged() -> bool:
        # A machine under load may lose answers.
        container.exec_run(["ping", "-c", "2", "-s", "1000", gateway])
        return min(counted()) > 2000

    wait_until(pinged, "bytes have gone both ways")
    before = counted()
    told = asyncio.run(figures(engine_url, [container.id], lambda told: len(told) == 1))
    after = counted()
    assert before[0] <= told[0][1].network_rx_bytes <= after[0]
    assert before[1] <= told[0][1].network_tx_bytes <= after[1]


def test_only_running_containers_are_reported(engine: docker.DockerClient, engine_url: str, run: Run) -> None:
    running = run(*FOREVER, network_mode="none")
    ended = run("true", network_mode="none")
    ended.wait()
    ids = [ended.id, "0" * 64, running.id]
    told = asyncio.run(figures(engine_url, ids, lambda told: len(told) == 3))
    assert {running.id} == {container_id for container_id, _ in told}


def test_a_container_that_starts_is_told_of_by_what_it_uses_since(engine_url: str, run: Run) -> None:
    busy = run(*BUSY, nano_cpus=int(CPUS * 1e9), network_mode="none")
    busy.stop(timeout=0)
    other = run(*FOREVER, network_mode="none")

    def enough(told: Figures) -> bool:
        if len(told) == 2:
            busy.start()
        return any(container_id == busy.id for container_id, _ in told)

    told = asyncio.run(figures(engine_url, [busy.id, other.id], enough))
    assert [other.id] * 2 == [container_id for container_id, _ in told[:2]]
    assert told[-1][1].cpu_percent > 5


def test_a_restart_leaves_a_gap_and_no_false_figure(engine_url: str, run: Run) -> None:
    busy = run(*BUSY, nano_cpus=int(CPUS * 1e9), network_mode="none")

    async def main() -> tuple[Figures, int]:
        restarted_at = 0

        def enough(told: Figures) -> bool:
            nonlocal restarted_at
            if len(told) == 2:
                busy.restart(timeout=0)
                restarted_at = time.time_ns()
            return bool(restarted_at) and sum(stats.time_ns > restarted_at for _, stats in told) == 2

        return await figures(engine_url, [busy.id], enough), restarted_at

    told, restarted_at = asyncio.run(main())
    assert told[1][1].time_ns < restarted_at < told[-1][1].time_ns
    assert all(0 <= stats.cpu_percent < 100 * CPUS + 15 for _, stats in told)
    assert told[-1][1].cpu_percent > 5
