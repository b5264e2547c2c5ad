"""Figures of resource use, from the engines' stats documents."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_manager.backends.sampling import raw_sample
from container_manager.model import RawSample
from container_manager.stats.figures import ContainerStats, stats_between

UINT64 = st.integers(0, 2**64 - 1)


def document(**parts: Any) -> dict[str, Any]:
    """The answer of an engine on cgroup v1 to a one-shot request, shortened; ``parts`` replace its keys."""
    return {
        "read": "2026-11-23T23:46:34.038784892Z",
        "preread": "0001-01-01T00:00:00Z",
        "pids_stats": {"current": 3},
        "cpu_stats": {
            "cpu_usage": {"total_usage": 77700026, "percpu_usage": [61374035, 16325991]},
            "system_cpu_usage": 3012450000000,
            "online_cpus": 2,
        },
        "precpu_stats": {"cpu_usage": {"total_usage": 0}},
        "memory_stats": {
            "usage": 2469888,
            "stats": {"inactive_file": 1, "total_inactive_file": 1982464},
            "limit": 25276514304,
        },
        "networks": {"eth0": {"rx_bytes": 200, "tx_bytes": 10}, "eth1": {"rx_bytes": 3000, "tx_bytes": 100}},
        **parts,
    }


def not_running() -> dict[str, Any]:
    """An engine's answer for a container that does not run."""
    return {
        "read": "0001-01-01T00:00:00Z",
        "preread": "0001-01-01T00:00:00Z",
        "pids_stats": {},
        "cpu_stats": {"cpu_usage": {"total_usage": 0}, "throttling_data": {"periods": 0}},
        "precpu_stats": {"cpu_usage": {"total_usage": 0}},
        "memory_stats": {},
        "name": "/intelligent_diffie",
        "id": "9e3672f27df8",
    }


SAMPLE = RawSample(
    time_ns=1795477594_038784892,
    cpu_ns=77700026,
    cpus=2,
    memory_usage_bytes=2469888 - 1982464,
    memory_limit_bytes=25276514304,
    network_rx_bytes=3200,
    network_tx_bytes=110,
    pids=3,
)


def later(seconds: float, cpu_seconds: float) -> RawSample:
    return replace(SAMPLE, time_ns=SAMPLE.time_ns + int(seconds * 1e9), cpu_ns=SAMPLE.cpu_ns + int(cpu_seconds * 1e9))


def test_a_document_of_cgroup_v1() -> None:
    assert SAMPLE == raw_sample(document())


def test_in_a_document_of_cgroup_v2_the_cache_has_another_name() -> None:
    sample = raw_sample(document(memory_stats={"usage": 5000, "limit": 9000, "stats": {"inactive_file": 1200}}))
    assert sample is not None
    assert (3800, 9000) == (sample.memory_usage_bytes, sample.memory_limit_bytes)


@pytest.mark.parametrize(
    ("details", "usage"),
    [
        ({"total_inactive_file": 6000}, 5000),
        ({"inactive_file": 5000}, 5000),
        ({"total_inactive_file": 6000, "inactive_file": 1000}, 4000),
        ({}, 5000),
        (None, 5000),
    ],
)
def test_a_cache_that_is_not_part_of_the_usage_is_not_taken_off(details: dict[str, int] | None, usage: int) -> None:
    sample = raw_sample(document(memory_stats={"usage": 5000, "stats": details}))
    assert sample is not None
    assert usage == sample.memory_usage_bytes


def test_what_a_container_does_not_have_is_zero() -> None:
    bare = {"read": document()["read"], "cpu_stats": {"cpu_usage": {"total_usage": 5}}}
    sample = RawSample(SAMPLE.time_ns, 5, 0, 0, 0, 0, 0, 0)
    assert sample == raw_sample(bare)
    assert sample == raw_sample({**bare, "memory_stats": {}, "networks": None, "pids_stats": {}})


def test_the_networks_are_added_up() -> None:
    sample = raw_sample(document(networks={"a": {"rx_bytes": 1}, "b": {"rx_bytes": 20, "tx_bytes": 4}, "c": {}}))
    assert sample is not None
    assert (21, 4) == (sample.network_rx_bytes, sample.network_tx_bytes)


@pytest.mark.parametrize(
    ("read", "time_ns"),
    [
        ("2026-11-23T23:46:34Z", 1795477594_000000000),
        ("2026-11-23T23:46:34.5Z", 1795477594_500000000),
        ("2026-11-24T01:46:34.000000001+02:00", 1795477594_000000001),
    ],
)
def test_the_time_is_told_to_the_nanosecond(read: str, time_ns: int) -> None:
    sample = raw_sample(document(read=read))
    assert sample is not None
    assert time_ns == sample.time_ns


def test_a_container_that_does_not_run_has_no_sample() -> None:
    assert raw_sample(not_running()) is None


@pytest.mark.parametrize(
    "what",
    [
        None,
        [],
        "stats",
        {},
        {"message": "no such container"},
        document(read=None),
        document(read=1795477594),
        document(read="yesterday"),
        document(read="2026-13-41T00:00:00Z"),
        document(cpu_stats=None),
        document(cpu_stats={"cpu_usage": {}}),
        document(cpu_stats={"cpu_usage": {"total_usage": "1"}}),
        document(cpu_stats={"cpu_usage": {"total_usage": 1.5}}),
        document(cpu_stats={"cpu_usage": {"total_usage": True}}),
        document(cpu_stats={"cpu_usage": {"total_usage": -1}}),
        document(memory_stats=[]),
        document(memory_stats={"usage": 2**64}),
        document(networks={"eth0": 7}),
        document(pids_stats={"current": -1}),
    ],
    ids=str,
)
def test_what_is_no_stats_document_has_no_sample(what: object) -> None:
    assert raw_sample(what) is None


def test_the_figures_are_those_of_the_later_sample() -> None:
    now = RawSample(SAMPLE.time_ns + 1_000_000_000, SAMPLE.cpu_ns, 2, 1, 2, 3, 4, 5)
    assert ContainerStats(now.time_ns, 0.0, 1, 2, 3, 4, 5) == stats_between(SAMPLE, now)


@pytest.mark.parametrize(("seconds", "cpu_seconds", "percent"), [(2, 0.6, 30), (0.5, 0.5, 100), (4, 6, 150), (3, 0, 0)])
def test_cpu_is_told_in_percent_of_one_core(seconds: float, cpu_seconds: float, percent: float) -> None:
    stats = stats_between(SAMPLE, later(seconds, cpu_seconds))
    assert stats is not None
    assert percent == pytest.approx(stats.cpu_percent)


def test_more_than_all_cores_is_not_told() -> None:
    now = later(1, 5)
    stats = stats_between(SAMPLE, now)
    unlimited = stats_between(SAMPLE, replace(now, cpus=0))
    assert stats is not None
    assert unlimited is not None
    assert (200, 500) == (stats.cpu_percent, unlimited.cpu_percent)


def test_a_restart_in_between_gives_no_figure_and_the_next_pair_does() -> None:
    restarted = replace(later(2, 0), cpu_ns=1000)
    after = replace(later(4, 0), cpu_ns=1000 + 500_000_000)
    assert stats_between(SAMPLE, restarted) is None
    stats = stats_between(restarted, after)
    assert stats is not None
    assert pytest.approx(25) == stats.cpu_percent


def start(seconds: float) -> int:
    return SAMPLE.time_ns + int(seconds * 1e9)


def test_after_a_restart_of_a_young_container_the_cpu_is_that_since_the_restart() -> None:
    """Its counter has not decreased: it used less before the restart than since."""
    stats = stats_between(SAMPLE, replace(later(2, 0), cpu_ns=300_000_000), start(1))
    assert stats is not None
    assert pytest.approx(30) == stats.cpu_percent


def test_after_a_restart_whose_time_is_known_there_is_a_figure_though_the_counter_went_back() -> None:
    stats = stats_between(SAMPLE, replace(later(2, 0), cpu_ns=50_000_000), start(1.5))
    assert stats is not None
    assert pytest.approx(10) == stats.cpu_percent


@pytest.mark.parametrize("seconds", [1.8, 2])
def test_just_after_a_restart_there_is_no_figure(seconds: float) -> None:
    assert stats_between(SAMPLE, later(2, 0.6), start(seconds)) is None


@pytest.mark.parametrize("seconds", [-5, 0, 2.1])
def test_a_start_before_the_earlier_sample_or_after_the_later_one_is_none_in_between(seconds: float) -> None:
    assert stats_between(SAMPLE, later(2, 0.6)) == stats_between(SAMPLE, later(2, 0.6), start(seconds))


@pytest.mark.parametrize("seconds", [0, -1])
def test_without_time_in_between_there_is_no_figure(seconds: int) -> None:
    assert stats_between(SAMPLE, later(seconds, 1)) is None


SAMPLES = st.builds(RawSample, UINT64, UINT64, st.integers(0, 4096), UINT64, UINT64, UINT64, UINT64, UINT64)


@given(SAMPLES, SAMPLES, st.one_of(st.none(), UINT64))
def test_a_percentage_is_a_number_and_never_negative(before: RawSample, now: RawSample, start_ns: int | None) -> None:
    stats = stats_between(before, now, start_ns)
    if stats is not None:
        assert math.isfinite(stats.cpu_percent)
        assert stats.cpu_percent >= 0


COUNT = st.one_of(UINT64, st.none(), st.integers(), st.text(max_size=3), st.booleans(), st.floats())
PART = st.dictionaries(st.sampled_from(["usage", "limit", "current", "rx_bytes", "online_cpus", "cpu_usage"]), COUNT)


@given(st.dictionaries(st.sampled_from(list(document())), st.one_of(PART, st.none(), st.text(max_size=3))))
def test_no_document_is_an_error_and_every_count_fits_its_field(parts: dict[str, Any]) -> None:
    sample = raw_sample(document(**parts))
    if sample is not None:
        counts = (sample.cpu_ns, sample.memory_usage_bytes, sample.memory_limit_bytes, sample.pids)
        assert all(0 <= count < 2**64 for count in counts)
