"""The jobs of `make test`: every test is in one of them, a failed one stops no other, and each leaves its outcome."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
DIRECTORIES = {f"tests/{path.parent.name}" for path in (CHECKOUT / "tests").glob("*/test_*.py")}
# Not as a make within `make test`, which would print more.
ENVIRONMENT = {**os.environ, "MAKEFLAGS": "", "MAKELEVEL": "0", "CI": ""}
# In place of Python: prints its arguments, and leaves a report. The job $FAILS fails, and $ENDED leaves none.
STUB = """#!/bin/sh
echo "ran with niceness $(nice): $*"
for argument; do case $argument in
    *"/$FAILS.xml") exit 3 ;;
    *"/$ENDED.xml") exit 0 ;;
    --junit-xml=*) echo report >"${argument#*=}" ;;
esac; done
"""


def variable(name: str) -> list[str]:
    """The words that a variable of the makefile has, on the checkout."""
    command = ["make", "-f", "dev/suite.mk", "--no-print-directory", f"--eval=show: ; @echo $({name})", "show"]
    done = subprocess.run(command, cwd=CHECKOUT, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the makefile, where the environments have the stub in place of Python."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "suite.mk").symlink_to(CHECKOUT / "dev" / "suite.mk")
    (tmp_path / "dev" / "env.sh").write_text("#!/bin/sh\n")
    (tmp_path / "dev" / "env.sh").chmod(0o755)
    (tmp_path / "Makefile").write_text("check:\n\t@echo checked; nice\n")
    for environment in (".venv", ".venv-lowest"):
        program = tmp_path / environment / "bin" / "python"
        program.parent.mkdir(parents=True)
        program.write_text(STUB)
        program.chmod(0o755)
    return tmp_path


def suite(
    checkout: Path, *variables: str, fails: str = "none", ended: str = "none"
) -> subprocess.CompletedProcess[str]:
    environment = {**ENVIRONMENT, "FAILS": fails, "ENDED": ended}
    command = ["make", "-f", "dev/suite.mk", *variables]
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)


def codes(checkout: Path) -> dict[str, str]:
    """The exit codes that the jobs left."""
    files = (checkout / ".dev" / "results").glob("*.exit")
    return {file.stem: file.read_text().partition(" ")[0] for file in files}


def arguments(output: str, job: str) -> list[str]:
    """With what a pytest job ran."""
    (line,) = [line for line in output.splitlines() if f"/{job}.xml" in line]
    return line.split()


def test_every_directory_of_tests_is_in_exactly_one_pytest_run_of_the_current_versions(checkout: Path) -> None:
    output = suite(checkout).stdout
    faults = set(arguments(output, "faults")) & DIRECTORIES
    assert {"tests/hostile", "tests/chaos"} == faults
    ignored = {word.removeprefix("--ignore=") for word in arguments(output, "rest") if word.startswith("--ignore=")}
    assert {*faults, "tests/engine", "tests/swarm"} == ignored
    assert "tests/swarm" in arguments(output, "swarm")
    assert "tests" in arguments(output, "rest")
    left_out = {word.removeprefix("--ignore=") for word in arguments(output, "engine") if word.startswith("--ignore=")}
    assert "tests/engine" in arguments(output, "engine")
    elsewhere = [*arguments(output, "bot"), *arguments(output, "logs")]
    assert sorted(left_out) == sorted(word for word in elsewhere if word.startswith("tests/"))


@pytest.mark.parametrize(
    ("name", "least"), [("BOT_IMAGE_TESTS", 4), ("LOG_TESTS", 4), ("VERSION_TESTS", 12), ("FAULT_TESTS", 2)]
)
def test_the_tests_that_are_named_are_there(name: str, least: int) -> None:
    paths = variable(name)
    assert least <= len(paths)
    assert all((CHECKOUT / path).exists() for path in paths)


def test_all_passed_is_zero_and_all_is_told(checkout: Path) -> None:
    done = suite(checkout)
    assert (0, "") == (done.returncode, done.stderr)
    assert dict.fromkeys(variable("JOBS"), "0") == codes(checkout)
    closing = done.stdout.splitlines()[-len(codes(checkout)) :]
    assert {f"{name}.exit:0" for name in codes(checkout)} == {line.partition(" ")[0] for line in closing}
    assert "checked" in done.stdout


def test_a_failed_job_stops_no_other(checkout: Path) -> None:
    done = suite(checkout, fails="engine")
    assert done.returncode
    assert {**dict.fromkeys(variable("JOBS"), "0"), "engine": "3"} == codes(checkout)
    assert "engine: exit code 3" in done.stdout


@pytest.mark.parametrize("job", ["engine", "logs", "faults", "rest", "lowest", "bot", "swarm"])
def test_tests_that_end_pytest_fail_their_job_whatever_the_exit_code(checkout: Path, job: str) -> None:
    done = suite(checkout, ended=job)
    assert done.returncode
    assert {**dict.fromkeys(variable("JOBS"), "0"), job: "1"} == codes(checkout)
    assert f"{job}: something ended pytest before its report" in done.stdout


def test_a_job_that_did_not_end_has_no_exit_code(checkout: Path) -> None:
    (checkout / ".venv" / "bin" / "python").write_text("#!/bin/sh\nkill -9 $PPID\n")
    assert suite(checkout, "JOBS=engine check").returncode
    assert {"engine": "", "check": "0"} == codes(checkout)


def test_what_computes_and_the_checks_yield_to_the_tests_on_engines(checkout: Path) -> None:
    output = suite(checkout).stdout
    ours = os.nice(0)
    for job, niceness in (
        ("engine", ours),
        ("faults", ours),
        ("rest", min(19, ours + 5)),
        ("lowest", min(19, ours + 5)),
    ):
        assert f"niceness {niceness}:" in " ".join(arguments(output, job))
    assert "checked\n19\n" in output


def test_a_repetition_runs_the_failed_tests_of_the_first_run_and_keeps_its_outcomes(checkout: Path) -> None:
    suite(checkout, "JOBS=engine check", fails="engine")
    output = suite(checkout, "JOBS=engine", "RESULTS=again", "CACHES=.dev/results", "REPEAT=--last-failed").stdout
    assert "--last-failed" in arguments(output, "engine")
    assert f"cache_dir={checkout}/.dev/results/engine.cache" in arguments(output, "engine")
    assert {"engine.exit", "engine.xml"} == {path.name for path in (checkout / "again").iterdir()}
    assert {"engine": "3", "check": "0"} == codes(checkout)


def test_jobs_run_at_the_same_time(checkout: Path) -> None:
    """Each of two waits for the other."""
    meet = "touch {0}/{1}; until [ -e {0}/{2} ]; do sleep 0.01; done\n"
    (checkout / ".venv" / "bin" / "python").write_text(STUB + meet.format(checkout, "a", "b"))
    (checkout / "Makefile").write_text("check:\n\t@" + meet.format(checkout, "b", "a"))
    assert 0 == suite(checkout, "JOBS=engine check").returncode
