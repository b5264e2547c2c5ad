"""The benchmark itself: its statistics, and a smoke run of every part on a scripted engine."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import pytest

from bench import fleet
from bench.figures import p99, percentile, ratio, ratio_of
from bench.report import Part

TOP = Path(__file__).parents[2]
# One row for each, with its reference.
FIGURES = [
    "watchers: event to the last, p99",
    "log of 200 lines: service",
    "stops in flight / idle p50",
    "slowest status until",
    "status p99 beside a log reader / idle p50",
    "status p99 beside a log reader / idle p99",
    "lifecycle: service / raw HTTP",
    "status p50, 3: service, bare stub / empty echo service",
    "status p50, 3: service / empty echo service",
    "status p50, 3: service with telemetry, bare stub / service, bare stub",
    "list of 3: raw HTTP / service",
    "list of 3: docker SDK / service",
    "sync of 3 containers",
    "list of 43, p50, repeated",
    "memory with 2 containers",
    "memory for each of 40 containers",
]


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory with a short path, for unix sockets."""
    with TemporaryDirectory(prefix="b") as directory:
        yield Path(directory)


def smoke(scratch: Path, *parts: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", "--smoke", *parts]
    variables = {**os.environ, "TMPDIR": str(scratch), **environment}
    return subprocess.run(command, cwd=TOP, env=variables, capture_output=True, text=True, check=False)


def test_a_smoke_run_gives_every_figure_and_leaves_nothing(scratch: Path) -> None:
    run = smoke(scratch)
    assert (0, "") == (run.returncode, run.stderr)
    aims = run.stdout.partition("\nAims\n")[2]
    assert [] == [figure for figure in FIGURES if figure not in aims]
    assert [] == list(scratch.iterdir())


def test_a_service_that_does_not_start_fails_the_run(scratch: Path) -> None:
    run = smoke(scratch, "lifecycle", CONTAINER_MANAGER_GRACE_SECONDS="never")
    assert 1 == run.returncode
    assert "does not serve" in run.stderr
    assert [] == list(scratch.iterdir())


def test_drift_that_both_share_does_not_widen_the_interval_of_a_ratio() -> None:
    draw = random.Random(1)
    drift = [1 + number / 20 for number in range(40)]
    base = [moment * draw.uniform(0.99, 1.01) for moment in drift]
    values = [1.5 * moment * draw.uniform(0.99, 1.01) for moment in drift]
    paired, unpaired = ratio(values, base), ratio_of(values, base, median, median)
    assert 1.4 < paired.low <= paired.value <= paired.high < 1.6
    assert unpaired.high - unpaired.low > 3 * (paired.high - paired.low)


def test_a_round_that_was_disturbed_does_not_move_a_ratio() -> None:
    base = [1.0 + number / 100 for number in range(20)]
    values = [1.5 * each for each in base[:-1]] + [100.0]
    assert [1.5, 1.5] == [pytest.approx(figure) for figure in ratio(values, base)[:2]]


def test_a_ratio_of_percentiles_takes_each_from_its_own_series() -> None:
    values, base = [float(number) for number in range(1, 101)], [1.0, 2.0, 3.0]
    measured = ratio_of(values, base, p99, median)
    assert 99 / 2 == measured.value
    assert measured.low < measured.value < measured.high


def test_an_interval_holds_the_true_ratio_in_most_runs_and_not_in_all() -> None:
    draw = random.Random(2)
    held = 0
    for _ in range(40):
        base = [draw.lognormvariate(0, 0.3) for _ in range(25)]
        values = [1.05 * draw.lognormvariate(0, 0.3) for _ in range(25)]
        interval = ratio(values, base)
        held += interval.low <= 1.05 <= interval.high
    assert 35 <= held < 40


def test_series_of_different_lengths_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio([1.0, 2.0], [1.0])


def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed() -> None:
    values = [float(number) for number in range(200, 0, -1)]
    assert [1.0, 100.0, 198.0, 200.0] == [percentile(values, percent) for percent in (0, 50, 99, 100)]


def test_an_aim_is_met_at_its_limit_and_missed_beyond() -> None:
    part = Part()
    part.at_most("time", 3.0, 3, " s")
    part.at_most("time", 3.01, 3, " s")
    part.at_least("faster", 18.0, 18)
    part.at_least("faster", 17.9, 18)
    assert ["met", "NOT MET", "met", "NOT MET"] == [met for *_, met in part.aims]
    assert ("time", "3.01 s", "at most 3 s", "NOT MET") == part.aims[1]


def test_the_table_beside_openclaw_fleet_has_a_column_each_and_the_circumstances() -> None:
    columns = {
        "this service": {"list": "0.3 s", "upgrade": "9.0 s, state kept"},
        "fleet": {"list": "2.0 s", "upgrade": "61 s"},
    }
    text = fleet.table(columns, {"CPUs": 2, "load average before": "0.10"})
    assert [
        "| | this service | fleet |",
        "|---|---|---|",
        "| list | 0.3 s | 2.0 s |",
        "| upgrade | 9.0 s, state kept | 61 s |",
        "",
        "CPUs: 2; load average before: 0.10.",
    ] == text.splitlines()


def test_the_document_beside_openclaw_fleet_has_the_marker_of_its_table() -> None:
    assert 1 == (TOP / "docs" / "openclaw-fleet.md").read_text().count(fleet.MARKER)
