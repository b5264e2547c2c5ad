"""What a CI run makes of the first run's outcomes: green, red, or a few failed tests once more."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev.ci import MOST_REPEATED, Job, closing_line, judge, judge_repetition, read
from dev.junit import Outcome, Verdict

PASSED, SKIPPED, FAILED = (Outcome(verdict, "why") for verdict in Verdict)
TIMEOUT = Outcome(Verdict.FAILED, "Failed: Timeout (>300.0s) from pytest-timeout.")
LEFT = Outcome(Verdict.FAILED, 'failed on teardown with "AssertionError: left behind"')


def ran(*failed: str, passed: int = 0) -> Job:
    """A pytest run of as many tests."""
    tests = {**dict.fromkeys(failed, FAILED), **{f"p{number}": PASSED for number in range(passed)}}
    return Job(int(bool(failed)), tests)


DONE = Job(0)


def test_a_run_without_failures_is_green() -> None:
    assert [] == judge(0, {"engine": ran(passed=2), "rest": ran(), "check": DONE})


def test_a_few_failed_tests_are_worth_a_repetition() -> None:
    assert [] == judge(2, {"engine": ran("b", "a"), "rest": ran(*"cde"), "check": DONE})


def test_more_failed_tests_are_red() -> None:
    jobs = {"engine": ran("a"), "rest": ran(*map(str, range(MOST_REPEATED)))}
    assert ["6 tests failed, more than the 5 that are repeated"] == judge(2, jobs)


def test_a_failed_job_is_red_even_beside_failed_tests() -> None:
    assert ["check failed (2)"] == judge(2, {"engine": ran("a"), "rest": ran(), "check": Job(2)})


def test_a_suite_that_ended_before_its_jobs_or_after_them_is_red() -> None:
    assert ["make test failed (1)"] == judge(1, {})
    assert ["make test failed (137)"] == judge(137, {"engine": ran(passed=1)})


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        (Job(), "engine did not run to its end"),
        (Job(None, {"a": FAILED}), "engine did not run to its end"),
        (Job(137), "engine failed (137)"),
        (Job(139, {"a": PASSED}), "engine failed (139)"),
        (Job(139, {"a": FAILED}), "engine failed (139)"),
        (Job(2, {"a": FAILED}), "engine failed (2)"),
        (Job(1, {"a": PASSED}), "engine failed (1)"),
        (Job(1, {"a": TIMEOUT, "b": PASSED}), "a ran into the time limit"),
        (Job(1, {"a": PASSED, "b": LEFT}), f"b, the last test of engine: {LEFT.message}"),
    ],
)
def test_what_a_repetition_cannot_repair_is_red(job: Job, reason: str) -> None:
    assert [reason] == judge(2, {"engine": job})


def test_a_test_before_the_last_that_could_not_clear_up_is_repeated() -> None:
    assert [] == judge(2, {"engine": Job(1, {"a": LEFT, "b": PASSED})})


def test_a_repetition_counts_only_if_every_test_passed() -> None:
    first = {"engine": ran("a", "b")}
    assert [] == judge_repetition(first, {"engine": Job(0, {"a": PASSED, "b": PASSED})})
    assert ["a failed again"] == judge_repetition(first, {"engine": Job(1, {"a": FAILED, "b": PASSED})})
    assert ["b did not pass when repeated"] == judge_repetition(first, {"engine": Job(0, {"a": PASSED, "b": SKIPPED})})
    assert ["b did not pass when repeated"] == judge_repetition(first, {"engine": Job(0, {"a": PASSED})})
    assert ["engine failed (137)"] == judge_repetition(first, {"engine": Job(137, {"a": PASSED, "b": PASSED})})
    assert "engine did not run to its end" in judge_repetition(first, {})


def test_the_closing_line_has_the_sums_and_a_red_run_a_failure() -> None:
    tests = [{"a": PASSED, "b": PASSED, "x": FAILED}, {"c": PASSED, "d": SKIPPED}]
    assert "3 passed, 1 failed, 1 skipped" == closing_line(tests, red=True)
    assert "1 passed, 0 failed, 1 skipped" == closing_line(tests[1:], red=False)
    assert "1 passed, 1 failed, 1 skipped" == closing_line(tests[1:], red=True)


def test_a_truncated_exit_file_means_a_job_that_did_not_end(tmp_path: Path) -> None:
    (tmp_path / "engine.exit").write_text("")
    (tmp_path / "engine.xml").write_text("<testsuites><testsui")
    (tmp_path / "check.exit").write_text("2 after 58 s\n")
    assert {"engine": Job(), "check": Job(2)} == read(tmp_path)
