"""What `.ci/run` runs: `make test` with the audit beside it, and few failed tests once more: `python3 -m dev.ci`.

Tests on real engines may fail by a machine that stood still for a moment, and a bug that shows in one run of many is
not found by throwing the run away. So where at most five tests have failed, and nothing else, these are run once more
by themselves. If they pass then, the run passes and names them as flaky, with their first failure above.
The last line is `N passed, N failed, N skipped`, of all pytest runs together.
"""

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dev.audit import CLEAN, NOT_DONE
from dev.beside import IDLE, Job, run
from dev.outcomes import VARIABLE, Outcomes, read
from dev.suite import CHECKOUT, CODES_FILE, OUTCOMES_DIRECTORY, PYTHON, Part, parts

MOST_REPEATED = 5
_SOME_FAILED = 1  # pytest's exit code when all ran, and some failed
_INTERRUPTED = 2
_WITH_ENGINE = [PYTHON, "-m", "dev.run", "--"]
_SUITE = ["make", "test"]
_AUDIT_SCRIPT = f"""
dev/env.sh audit && exec {PYTHON} -m dev.audit
echo "audit: THE AUDIT DID NOT HAPPEN: the environment for it cannot be made"
exit {NOT_DONE}
"""
_AUDIT = ["sh", "-c", _AUDIT_SCRIPT]
_PATIENCE_SECONDS = 150  # more than the suite's own, and what its engine takes to stop


@dataclass
class Verdict:
    """What the first run leads to: green, if it holds nothing; else red, unless all that failed may be repeated."""

    reasons: list[str] = field(default_factory=list)
    """Why the run is red, whatever a repetition tells."""
    repeated: dict[str, list[str]] = field(default_factory=dict)
    """By the part's name, the ids of the tests that are worth another run."""


def judge(outcomes: Mapping[str, Outcomes], codes: Mapping[str, int]) -> Verdict:
    """The verdict on the outcomes of every pytest run, and the exit codes of all jobs, by their names."""
    verdict = Verdict()
    for name, told in outcomes.items():
        verdict.reasons += [f"{name}: {reason}" for reason in _beyond_repeat(told, codes.get(name))]
    verdict.reasons += [f"{name} failed ({code})" for name, code in codes.items() if code and name not in outcomes]
    failed = {name: sorted(told.failed) for name, told in outcomes.items() if told.failed}
    count = sum(len(ids) for ids in failed.values())
    if count > MOST_REPEATED:
        verdict.reasons.append(f"{count} tests failed, more than the {MOST_REPEATED} that are repeated")
    if not verdict.reasons:
        verdict.repeated = failed
    return verdict


def _beyond_repeat(told: Outcomes, code: int | None) -> list[str]:
    """What no repetition of failed tests can make good."""
    if told.running and code != _INTERRUPTED:
        return [*told.beyond_repeat, f"pytest died ({code}) while it ran {told.running}"]
    if told.exit_code is None:
        return [*told.beyond_repeat, f"pytest died ({code}), or did not begin"]
    if code != told.exit_code:
        return [*told.beyond_repeat, f"pytest died ({code}) after its last test"]
    if code not in (0, _SOME_FAILED):
        interrupted = f" while it ran {told.running}" if told.running else ""
        return [*told.beyond_repeat, f"pytest ended with {code}: it was interrupted{interrupted}, or is broken itself"]
    if code == _SOME_FAILED and not told.failed and not told.beyond_repeat:
        return ["pytest failed, and no test did"]
    return told.beyond_repeat


def closing_line(outcomes: Sequence[Outcomes], *, red: bool) -> str:
    """The sums; a red run never shows none as failed."""
    passed, failed, skipped = (sum(len(getattr(told, kind)) for told in outcomes) for kind in _KINDS)
    return f"{passed} passed, {max(failed, int(red))} failed, {skipped} skipped"


_KINDS = ("passed", "failed", "skipped")


def repeat(part: Part, ids: Sequence[str], directory: Path) -> tuple[Outcomes, int]:
    """The outcomes of another run of these tests alone, on whatever engine there is to be had, and its exit code."""
    file = directory / f"{part.name}.again"
    command = [*_WITH_ENGINE, *part.command(ids)]
    (ended,) = run([[Job(f"{part.name}-again", command, live=True, environment={VARIABLE: str(file)})]])
    return read(file), ended.code


def still_red(ids: Sequence[str], told: Outcomes, code: int) -> list[str]:
    """Why the repetition does not make the first failures good; empty if it does."""
    again = [f"{name} failed again" for name in sorted(told.failed)]
    lost = [f"{name} did not pass when repeated" for name in sorted(set(ids) - told.passed - told.failed)]
    return [*again, *_beyond_repeat(told, code), *lost]


def judge_audit(code: int) -> list[str]:
    """Why the audit makes the run red. One that could not be carried out does not: the network is nobody's fault."""
    return [] if code in (CLEAN, NOT_DONE) else [f"the audit found known vulnerabilities, or failed ({code})"]


def main() -> int:
    """Run, repeat, and tell."""
    os.chdir(CHECKOUT)
    with tempfile.TemporaryDirectory(prefix="ci-") as name:
        directory = Path(name)
        suite = Job("make-test", _SUITE, live=True, environment={OUTCOMES_DIRECTORY: name})
        audit = Job("audit", _AUDIT, niceness=IDLE)
        ended = {each.name: each.code for each in run([[suite], [audit]], _PATIENCE_SECONDS)}
        told = {part.name: read(directory / part.outcomes) for part in parts()}
        verdict = judge(told, _codes(directory, ended[suite.name]))
        reasons = [*verdict.reasons, *judge_audit(ended[audit.name])]
        flaky = []
        for part in parts() if not reasons else ():
            ids = verdict.repeated.get(part.name)
            if ids:
                print(f"\n======== {part.name}: once more: {' '.join(ids)}", flush=True)
                again, code = repeat(part, ids, directory)
                reasons += still_red(ids, again, code)
                told[part.name].failed -= again.passed
                told[part.name].passed |= again.passed
                flaky += sorted(again.passed)
    print()
    if flaky:
        print(f"FLAKY: {' '.join(flaky)} failed once and passed when repeated")
    for reason in reasons:
        print(f"RED: {reason}")
    print(closing_line(list(told.values()), red=bool(reasons)), flush=True)
    return 1 if reasons else 0


def _codes(directory: Path, code: int) -> dict[str, int]:
    """The exit codes of the suite's jobs; or its own, where it did not get that far, or came to grief after them."""
    try:
        codes: dict[str, int] = json.loads((directory / CODES_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {"make test": code or 1}
    return codes if any(codes.values()) else {**codes, "make test": code}


if __name__ == "__main__":
    sys.exit(main())
