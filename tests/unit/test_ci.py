"""What a CI run makes of the first run's outcomes: green, red, or a few failed tests once more."""

from __future__ import annotations

import pytest

from dev.ci import MOST_REPEATED, closing_line, judge, judge_audit, still_red
from dev.outcomes import Outcomes


def ran(*failed: str, passed: int = 0, exit_code: int | None = None, **more: object) -> Outcomes:
    """A run of as many tests."""
    code = exit_code if exit_code is not None else int(bool(failed))
    return Outcomes({f"p{number}" for number in range(passed)}, set(failed), exit_code=code, **more)  # type: ignore[arg-type]


GREEN = {"engine": 0, "rest": 0, "check": 0}


def test_a_run_without_failures_is_green() -> None:
    verdict = judge({"engine": ran(), "rest": ran()}, GREEN)
    assert ([], {}) == (verdict.reasons, verdict.repeated)


def test_a_few_failed_tests_are_repeated_each_in_its_part() -> None:
    outcomes = {"engine": ran("b", "a"), "rest": ran(*"cde")}
    verdict = judge(outcomes, {"engine": 1, "rest": 1, "check": 0})
    assert ([], {"engine": ["a", "b"], "rest": ["c", "d", "e"]}) == (verdict.reasons, verdict.repeated)


def test_more_failed_tests_are_red() -> None:
    outcomes = {"engine": ran("a"), "rest": ran(*map(str, range(MOST_REPEATED)))}
    verdict = judge(outcomes, {"engine": 1, "rest": 1})
    assert ["6 tests failed, more than the 5 that are repeated"] == verdict.reasons
    assert {} == verdict.repeated


def test_a_failed_job_beside_is_red_also_when_a_test_failed_too() -> None:
    verdict = judge({"engine": ran("a"), "rest": ran()}, {**GREEN, "engine": 1, "check": 2})
    assert (["check failed (2)"], {}) == (verdict.reasons, verdict.repeated)


def test_a_suite_that_ended_before_its_jobs_is_red() -> None:
    verdict = judge({"engine": Outcomes()}, {"make test": 1})
    assert ["engine: pytest died (None), or did not begin", "make test failed (1)"] == verdict.reasons


@pytest.mark.parametrize(
    ("told", "code", "reason"),
    [
        (Outcomes(running="t"), 137, "pytest died (137) while it ran t"),
        (Outcomes(), 4, "pytest died (4), or did not begin"),
        (ran(), 139, "pytest died (139) after its last test"),
        (ran("a", exit_code=2), 2, "pytest ended with 2: it was interrupted, or is broken itself"),
        (
            ran(running="t", exit_code=2),
            2,
            "pytest ended with 2: it was interrupted while it ran t, or is broken itself",
        ),
        (ran(exit_code=1), 1, "pytest failed, and no test did"),
        (ran("a", beyond_repeat=["m.py: collecting its tests"]), 1, "m.py: collecting its tests"),
        (ran("a", beyond_repeat=["t: it ran into pytest's time limit"]), 1, "t: it ran into pytest's time limit"),
    ],
)
def test_what_a_repetition_cannot_make_good_is_red(told: Outcomes, code: int, reason: str) -> None:
    verdict = judge({"engine": told}, {"engine": code})
    assert ([f"engine: {reason}"], {}) == (verdict.reasons, verdict.repeated)


def test_a_repetition_counts_only_if_every_test_passed() -> None:
    assert [] == still_red(["a", "b"], Outcomes({"a", "b"}, exit_code=0), 0)
    assert ["a failed again"] == still_red(["a", "b"], Outcomes({"b"}, {"a"}, exit_code=1), 1)
    assert ["b did not pass when repeated"] == still_red(["a", "b"], Outcomes({"a"}, set(), {"b"}, exit_code=0), 0)
    assert ["pytest died (137) while it ran a", "a did not pass when repeated"] == still_red(
        ["a"], Outcomes(running="a"), 137
    )


def test_the_closing_line_has_the_sums_and_a_red_run_a_failure() -> None:
    runs = [ran("x", passed=2), ran(passed=3, skipped={"s"})]
    assert "5 passed, 1 failed, 1 skipped" == closing_line(runs, red=True)
    assert "3 passed, 0 failed, 1 skipped" == closing_line(runs[1:], red=False)
    assert "3 passed, 1 failed, 1 skipped" == closing_line(runs[1:], red=True)


def test_an_audit_that_could_not_be_made_is_no_failure_and_what_it_finds_is() -> None:
    assert [] == judge_audit(0) + judge_audit(3)
    assert judge_audit(1)
    assert judge_audit(137)
