"""A CI run from its first process to its last line, of a suite with one test that can fail, and with a check."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from dev import ci
from dev.suite import CODES_FILE, OUTCOMES_DIRECTORY, Part

SUITE = """
import sys
from pathlib import Path
from dev import suite
from dev.beside import Job
suite.CHECKOUT = Path(sys.argv[1])
part = suite.Part("engine", sys.executable, ["test_it.py"])
suite.lanes = lambda outcomes: [
    [suite._job(part, outcomes)],
    [Job("check", ["sh", "-c", sys.argv[2]])],
]
sys.exit(suite.main())
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


class Case(NamedTuple):
    """How often the test fails, the check's command, and what comes of it."""

    failures: int
    check: str
    status: int
    words: tuple[str, ...]
    closing: str
    runs: int


CASES = {
    "flaky": Case(1, "true", 0, ("FLAKY: test_it.py::test_may_fail", "run 1"), "2 passed, 0 failed, 0 skipped", 2),
    "fails twice": Case(2, "true", 1, ("RED: ", "failed again", "run 2 fails"), "1 passed, 1 failed, 0 skipped", 2),
    "a check fails, too": Case(1, "exit 3", 1, ("RED: check failed (3)",), "1 passed, 1 failed, 0 skipped", 1),
}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the run takes place, with an audit that cannot be carried out."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ci.CHECKOUT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setattr(ci, "CHECKOUT", tmp_path)
    monkeypatch.setattr(ci, "_AUDIT", ["sh", "-c", "exit 3"])
    monkeypatch.setattr(ci, "_WITH_ENGINE", [])
    monkeypatch.setattr(ci, "parts", lambda: [Part("engine", sys.executable, ["test_it.py"])])
    return tmp_path


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_few_failed_tests_are_repeated_where_nothing_else_failed(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], case: Case
) -> None:
    (checkout / "test_it.py").write_text(TESTS.format(failures=case.failures))
    monkeypatch.setattr(ci, "_SUITE", [sys.executable, "-c", SUITE, str(checkout), case.check])
    assert case.status == ci.main()
    output = capfd.readouterr().out
    assert case.closing == output.splitlines()[-1]
    assert all(each in output for each in case.words), output
    assert ("FLAKY" in output, "RED" in output) == (case.status == 0, case.status == 1)
    assert str(case.runs) == (checkout / "mark").read_text()


@pytest.mark.parametrize("left", ['{"engine": 0, "che', ""], ids=["half", "empty"])
def test_a_file_of_exit_codes_that_was_cut_short_is_red_with_a_last_line(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], left: str
) -> None:
    (checkout / "left").write_text(left)
    monkeypatch.setattr(ci, "_SUITE", ["sh", "-c", f"cp left ${OUTCOMES_DIRECTORY}/{CODES_FILE}; exit 137"])
    assert 1 == ci.main()
    output = capfd.readouterr().out
    assert "RED: make test failed (137)" in output
    assert "0 passed, 1 failed, 0 skipped" == output.splitlines()[-1]


CUT_SHORT = """
import resource, sys
from pathlib import Path
from dev import suite
resource.setrlimit(resource.RLIMIT_FSIZE, (4, 4))
suite._leave_codes(Path(sys.argv[1]), {"engine": 0})
"""


def test_a_suite_that_ends_while_it_writes_its_exit_codes_leaves_no_half_of_them(tmp_path: Path) -> None:
    """By a limit of four bytes for a file, which is met in the middle."""
    command = [sys.executable, "-B", "-c", CUT_SHORT, str(tmp_path)]
    done = subprocess.run(command, cwd=ci.CHECKOUT, capture_output=True, text=True, check=False)
    assert "File too large" in done.stderr
    assert not (tmp_path / CODES_FILE).exists()
