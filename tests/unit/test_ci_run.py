"""A CI run from its first process to its last line, of a suite with one test that can fail, and with a check."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from dev import ci

MAKEFILE = """
JOBS := engine check
test: ; @$(MAKE) --no-print-directory -f dev/suite.mk JOBS="$(JOBS)"
check: ; @{check}
"""
TESTS = """
from pathlib import Path

def test_passes(): pass

def test_may_fail():
    mark = Path(__file__).with_name("mark")
    runs = int(mark.read_text()) + 1 if mark.exists() else 1
    mark.write_text(str(runs))
    assert runs > {failures}, f"run {{runs}} fails"
"""
NAME = "tests/engine/test_it.py::test_may_fail"


class Case(NamedTuple):
    """How often the test fails, the check's command, and what comes of it."""

    failures: int
    check: str
    status: int
    words: tuple[str, ...]
    closing: str
    runs: int


CASES = {
    "green": Case(0, "true", 0, (), "2 passed, 0 failed, 0 skipped", 1),
    "flaky": Case(1, "true", 0, (f"FLAKY: {NAME}", "run 1"), "2 passed, 0 failed, 0 skipped", 2),
    "fails twice": Case(2, "true", 1, (f"RED: {NAME} failed again", "run 2"), "1 passed, 1 failed, 0 skipped", 2),
    "a check fails, too": Case(1, "exit 3", 1, ("RED: check failed (2)",), "1 passed, 1 failed, 0 skipped", 1),
}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the run takes place."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    (tmp_path / "dev").symlink_to(ci.CHECKOUT / "dev")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "tests" / "engine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("MAKEFLAGS", raising=False)
    monkeypatch.setattr(ci, "CHECKOUT", tmp_path)
    return tmp_path


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_few_failed_tests_are_repeated_where_nothing_else_failed(
    checkout: Path, capfd: pytest.CaptureFixture[str], case: Case
) -> None:
    (checkout / "Makefile").write_text(MAKEFILE.format(check=case.check))
    (checkout / "tests" / "engine" / "test_it.py").write_text(TESTS.format(failures=case.failures))
    assert case.status == ci.main()
    output = capfd.readouterr().out
    assert case.closing == output.splitlines()[-1]
    assert all(each in output for each in case.words), output
    assert (case.runs == 2 and case.status == 0, case.status == 1) == ("FLAKY" in output, "RED" in output)
    assert str(case.runs) == (checkout / "tests" / "engine" / "mark").read_text()


def test_a_test_that_ends_pytest_makes_the_run_red(checkout: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With the exit code of a run that passed."""
    (checkout / "Makefile").write_text(MAKEFILE.format(check="true"))
    (checkout / "tests" / "engine" / "test_it.py").write_text("import os\n\ndef test_it(): os._exit(0)\n")
    assert 1 == ci.main()
    assert ["RED: engine failed (1)", "0 passed, 1 failed, 0 skipped"] == capfd.readouterr().out.splitlines()[-2:]


def test_a_run_that_does_not_get_as_far_as_its_jobs_is_red_with_a_last_line(
    checkout: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever an earlier run has left."""
    (checkout / "Makefile").write_text("test: ; @exit 7\n")
    (checkout / ci.RESULTS).mkdir(parents=True)
    (checkout / ci.RESULTS / "engine.exit").write_text("0 after 1 s\n")
    assert 1 == ci.main()
    assert ["RED: make test failed (2)", "0 passed, 1 failed, 0 skipped"] == capfd.readouterr().out.splitlines()[-2:]


def test_the_audit_is_a_job_of_a_ci_run_and_none_where_it_cannot_be_made(tmp_path: Path) -> None:
    """By its recipe, with an audit that ends so."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "suite.mk").symlink_to(ci.CHECKOUT / "dev" / "suite.mk")
    python, env = tmp_path / ".venv" / "bin" / "python", tmp_path / "dev" / "env.sh"
    python.parent.mkdir(parents=True)
    for audited, environment, status in ((0, 0, 0), (3, 0, 0), (1, 0, 1), (137, 0, 1), (0, 1, 0)):
        for program, code in ((python, audited), (env, environment)):
            program.write_text(f"#!/bin/sh\nexit {code}\n")
            program.chmod(0o755)
        command = ["make", "-f", "dev/suite.mk", "JOBS=audit"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert bool(status) == bool(done.returncode), done.stdout
