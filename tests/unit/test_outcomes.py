"""What a pytest run leaves of its outcomes: each test's, what no repetition can make good, and where it died."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dev.outcomes import VARIABLE, Outcomes, read

CHECKOUT = Path(__file__).parents[2]
MIXED = """
import pytest

def test_passes(): pass

@pytest.mark.parametrize("value", ["a b", "x::y"])
def test_fails(value): assert not value

def test_is_skipped(): pytest.skip("for a reason")

@pytest.mark.xfail(strict=True)
def test_fails_as_expected(): assert False

@pytest.fixture
def broken(): raise OSError

def test_cannot_begin(broken): pass

@pytest.fixture
def leaving():
    yield
    raise OSError

def test_cannot_end(leaving): pass

def test_is_last(): pass
"""
SHARED = """
import pytest

@pytest.fixture(scope="session")
def shared():
    yield
    assert [] == ["left behind"]

def test_first(shared): pass
def test_second(shared): pass
"""
HANGS = "import pytest, time\n@pytest.mark.timeout(0.2)\ndef test_hangs(): time.sleep(60)\ndef test_next(): pass\n"
DIES = "import os\ndef test_first(): pass\ndef test_dies(): os._exit(7)\n"


def outcomes_of(directory: Path, source: str) -> Outcomes:
    (directory / "test_it.py").write_text(source)
    (directory / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "dev.outcomes", "-p", "pytest_timeout", "-q", "test_it.py"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(CHECKOUT),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        VARIABLE: str(directory / "outcomes"),
    }
    subprocess.run(command, cwd=directory, env=environment, capture_output=True, check=False)
    return read(directory / "outcomes")


def test_every_test_is_passed_failed_or_skipped_whatever_it_failed_in(tmp_path: Path) -> None:
    found = outcomes_of(tmp_path, MIXED)
    failed = {"test_fails[a b]", "test_fails[x::y]", "test_cannot_begin", "test_cannot_end"}
    assert Outcomes(
        passed={"test_it.py::test_passes", "test_it.py::test_is_last"},
        failed={f"test_it.py::{name}" for name in failed},
        skipped={"test_it.py::test_is_skipped", "test_it.py::test_fails_as_expected"},
        exit_code=1,
    ) == found  # fmt: skip


@pytest.mark.parametrize(
    ("source", "words", "passed"),
    [
        (SHARED, "test_second: the end of what the whole run shares", 1),
        (HANGS, "test_hangs: it ran into pytest's time limit", 1),
        ("import nothing_of_this_name", "collecting its tests", 0),
    ],
    ids=["what all share is left behind", "a test that hangs", "a module that cannot be collected"],
)
def test_what_no_repetition_can_make_good_is_told(tmp_path: Path, source: str, words: str, passed: int) -> None:
    found = outcomes_of(tmp_path, source)
    (told,) = found.beyond_repeat
    assert words in told
    assert passed == len(found.passed)
    assert found.exit_code


def test_of_a_run_that_died_the_test_is_known(tmp_path: Path) -> None:
    found = outcomes_of(tmp_path, DIES)
    assert Outcomes(passed={"test_it.py::test_first"}, running="test_it.py::test_dies") == found


def test_a_run_that_never_began_and_an_unfinished_line_are_read(tmp_path: Path) -> None:
    assert Outcomes() == read(tmp_path / "absent")
    (tmp_path / "cut").write_text('{"what": "begun", "name": "a"}\n{"what": "passed", "na')
    assert Outcomes(running="a") == read(tmp_path / "cut")
