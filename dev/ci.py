"""What `.ci/run` runs: `make test` and the audit, and a few failed tests once more: `python3 -m dev.ci`.

A test on a real engine may fail because the machine stood still for a moment. So if at most five tests failed, and
nothing else did, they run once more by themselves. If they pass, so does the run, which names them as flaky.
The last line is `N passed, N failed, N skipped`, the sum of all pytest runs.
"""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dev.junit import TEARDOWN, Outcome, Verdict, read_junit
from dev.processes import tied

CHECKOUT = Path(__file__).resolve().parent.parent
RESULTS = ".dev/results"
AGAIN = ".dev/results-again"
MOST_REPEATED = 5
_SOME_FAILED = 1  # pytest's exit code when all tests ran, and some failed
_SUITE = ("make", "test")


@dataclass(frozen=True)
class Job:
    """How a job of dev/suite.mk ended."""

    code: int | None = None
    """Its exit code, as in a shell; None if it did not end."""
    tests: Mapping[str, Outcome] = field(default_factory=dict)
    """For a pytest run that wrote its report, the outcome of each test."""

    @property
    def failed(self) -> list[str]:
        """The ids of the failed tests."""
        return [test for test, outcome in self.tests.items() if outcome.verdict is Verdict.FAILED]


def read(results: Path) -> dict[str, Job]:
    """The jobs by their names."""
    jobs = {}
    for file in sorted(results.glob("*.exit")):
        words = file.read_text(encoding="ascii").split()
        try:
            tests = read_junit(file.with_suffix(".xml"))
        except ValueError:
            tests = {}
        jobs[file.stem] = Job(int(words[0]) if words else None, tests)
    return jobs


def beyond_repeat(name: str, job: Job) -> list[str]:
    """What repeating the failed tests of the job cannot make good."""
    if job.code is None:
        return [f"{name} did not run to its end"]
    if job.code != _SOME_FAILED or not job.failed:
        return [f"{name} failed ({job.code})"] if job.code else []
    reasons = [f"{test} ran into the time limit" for test in job.failed if "Timeout (>" in job.tests[test].message]
    # At the end of the last test comes the end of what the whole run shares, which finds what was left behind.
    last = list(job.tests)[-1]
    if job.tests[last].message.startswith(TEARDOWN):
        reasons.append(f"{last}, the last test of {name}: {job.tests[last].message}")
    return reasons


def judge(code: int, jobs: Mapping[str, Job]) -> list[str]:
    """Why a run whose `make test` ended with `code` is red, even if its failed tests pass when repeated."""
    reasons = [reason for name, job in jobs.items() for reason in beyond_repeat(name, job)]
    if code and not any(job.code for job in jobs.values()) and not reasons:
        reasons.append(f"make test failed ({code})")
    count = sum(len(job.failed) for job in jobs.values())
    if count > MOST_REPEATED:
        reasons.append(f"{count} tests failed, more than the {MOST_REPEATED} that are repeated")
    return reasons


def judge_repetition(first: Mapping[str, Job], again: Mapping[str, Job]) -> list[str]:
    """Why the run is red after its failed tests were repeated; empty if all of them passed."""
    reasons = []
    for name, failed in ((name, job.failed) for name, job in first.items() if job.failed):
        job = again.get(name, Job())
        reasons += [f"{test} failed again" for test in failed if test in job.failed]
        verdicts = {test: outcome.verdict for test, outcome in job.tests.items()}
        lost = [test for test in failed if verdicts.get(test) not in (Verdict.PASSED, Verdict.FAILED)]
        reasons += [f"{test} did not pass when repeated" for test in lost]
        reasons += beyond_repeat(name, job)
    return reasons


def closing_line(tests: Sequence[Mapping[str, Outcome]], *, red: bool) -> str:
    """The sums; a red run has at least one failure."""
    counts = Counter(outcome.verdict for each in tests for outcome in each.values())
    failed = max(counts[Verdict.FAILED], int(red))
    return f"{counts[Verdict.PASSED]} passed, {failed} failed, {counts[Verdict.SKIPPED]} skipped"


def _suite(*variables: str) -> int:
    """Run `make test`, passing on a signal; its exit code. Ctrl-C reaches it from the terminal."""
    suite = subprocess.Popen([*tied(), *_SUITE, *variables])
    before = {number: signal.signal(number, lambda *_: suite.terminate()) for number in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return suite.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main() -> int:
    """Run, repeat, and print the verdict."""
    os.chdir(CHECKOUT)
    for file in Path(RESULTS).glob("*.exit"):
        file.unlink()  # of an earlier run, if this one does not get as far as its jobs
    code = _suite()
    jobs = read(Path(RESULTS))
    reasons = judge(code, jobs)
    tests = [job.tests for job in jobs.values()]
    failed = [test for job in jobs.values() for test in job.failed]
    if failed and not reasons:
        names = [name for name, job in jobs.items() if job.failed]
        print(f"\n======== once more: {' '.join(failed)}", flush=True)
        _suite(f"JOBS={' '.join(names)}", f"RESULTS={AGAIN}", f"CACHES={RESULTS}", "REPEAT=--last-failed")
        again = read(Path(AGAIN))
        reasons = judge_repetition(jobs, again)
        tests = [{**job.tests, **again.get(name, Job()).tests} for name, job in jobs.items()]
    print()
    if failed and not reasons:
        print(f"FLAKY: {' '.join(failed)} failed once and passed when repeated")
    for reason in reasons:
        print(f"RED: {reason}")
    print(closing_line(tests, red=bool(reasons)), flush=True)
    return 1 if reasons else 0


if __name__ == "__main__":
    sys.exit(main())
