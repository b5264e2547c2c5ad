"""What `make test` runs beside one another: every test in one place, and nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev.outcomes import VARIABLE
from dev.suite import CHECKOUT, lanes, parts

DIRECTORIES = {f"tests/{path.parent.name}" for path in (CHECKOUT / "tests").glob("*/test_*.py")}


def test_every_directory_of_tests_is_in_exactly_one_pytest_run_of_the_current_versions() -> None:
    engine, faults, _, rest, _ = parts()
    own = [engine.arguments[0], *faults.arguments]
    assert len(own) == len(set(own) & DIRECTORIES)
    assert ["tests", *(f"--ignore={directory}" for directory in own)] == list(rest.arguments)


def test_what_one_run_leaves_out_of_the_engines_tests_another_one_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CHECKOUT)
    engine, _, bot, *_ = parts()
    assert [f"--ignore={module}" for module in bot.arguments] == list(engine.arguments[1:])
    assert all(Path(module).exists() for module in bot.arguments)


def test_the_lowest_versions_run_tests_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CHECKOUT)
    lowest = parts()[-1]
    paths = [argument for argument in lowest.arguments if argument.startswith("tests/")]
    assert len(paths) > 10
    assert all(Path(path).exists() for path in paths)


def test_every_run_of_tests_is_a_job_that_leaves_its_outcomes_where_they_are_asked_for(tmp_path: Path) -> None:
    jobs = [job for lane in lanes(tmp_path) for job in lane]
    names = [job.name for job in jobs]
    assert len(names) == len(set(names))
    files = {job.name: job.environment[VARIABLE] for job in jobs if VARIABLE in job.environment}
    assert {part.name: str(tmp_path / part.outcomes) for part in parts()} == files
    assert not any(job.environment for lane in lanes(None) for job in lane)
    assert 1 == sum(job.live for job in jobs)


def test_the_failed_tests_of_a_part_are_run_without_the_others() -> None:
    for part in parts():
        command = part.command(["tests/unit/test_x.py::test_y"])
        assert ["not slow", "tests/unit/test_x.py::test_y"] == command[-2:]
