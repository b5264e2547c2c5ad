"""Jobs beside one another: all run to their ends whatever others do, all is told, and no process is left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dev.beside import IDLE, NOT_RUN, Job, combined, run
from dev.remains import start_ticks
from tests.support.waiting import wait_until

CHECKOUT = Path(__file__).parents[2]


def shell(name: str, script: str, *, live: bool = False, niceness: int = 0) -> Job:
    return Job(name, ["sh", "-c", script], live=live, niceness=niceness)


def pid_in(file: Path) -> int:
    return int(wait_until(lambda: file.exists() and file.read_text().strip(), f"{file.name} is written", 60))


def gone(pid: int) -> bool:
    return start_ticks(pid) is None


def test_a_failing_job_stops_no_other_and_all_is_told(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    ended = run(
        [
            [shell("lives", "echo live words; exit 4", live=True)],
            [shell("fails", "echo why it failed >&2; exit 3"), shell("follows", "echo after the failure")],
        ]
    )
    assert {"lives": 4, "fails": 3, "follows": 0} == {each.name: each.code for each in ended}
    assert 4 == combined(ended)
    output = capfdbinary.readouterr().out.decode()
    assert output.startswith("live words\n")
    assert output.index("after the failure") < output.index("why it failed") < output.index("exit code 3")
    assert "follows" in output.partition("======== jobs")[2]


def test_all_passed_is_zero(capfd: pytest.CaptureFixture[str]) -> None:
    assert 0 == combined(run([[shell("one", "true")], [shell("two", "true", niceness=IDLE)]]))


def test_lanes_run_at_the_same_time_and_the_jobs_of_one_do_not(tmp_path: Path) -> None:
    """Each of two waits for the other; a third finds what the first has left."""
    meet = "touch {0}/{1}; until [ -e {0}/{2} ]; do sleep 0.01; done"
    lanes = [
        [shell("a", meet.format(tmp_path, "a", "b")), shell("c", f"test -e {tmp_path}/a")],
        [shell("b", meet.format(tmp_path, "b", "a"))],
    ]
    assert [0, 0, 0] == [each.code for each in run(lanes)]


def test_a_job_has_the_priority_that_is_asked_for(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    run([[shell("modest", "nice", niceness=IDLE), shell("polite", "nice", niceness=5), shell("plain", "nice")]])
    output = capfdbinary.readouterr().out
    ours = os.nice(0)
    for name, niceness in (("modest", 19), ("polite", min(19, ours + 5)), ("plain", ours)):
        assert f"======== {name}\n{niceness}\n".encode() in output


def test_a_command_that_is_not_there_fails_like_any(capfd: pytest.CaptureFixture[str]) -> None:
    ended = run([[Job("absent", ["/nonexistent/program"]), shell("next", "true")]])
    assert [127, 0] == [each.code for each in ended]
    told = capfd.readouterr()
    assert "/nonexistent/program" in told.out + told.err


def test_a_job_that_a_signal_killed_has_failed() -> None:
    assert [128 + signal.SIGKILL] == [each.code for each in run([[shell("killed", "kill -9 $$")]])]


def test_what_a_job_leaves_running_ends_with_it(tmp_path: Path) -> None:
    run([[shell("parent", f"sleep 600 & echo $! >{tmp_path}/pid")]])
    wait_until(lambda: gone(pid_in(tmp_path / "pid")), "the child is gone", 60)


PROGRAM = """
import sys
from pathlib import Path
from dev.beside import Job, run
directory, patience = Path(sys.argv[1]), float(sys.argv[2])
def job(name, script):
    pids = f"echo $$ >{directory}/{name}; sleep 600 & echo $! >{directory}/{name}-child; wait"
    return Job(name, ["sh", "-c", f"{script} {pids}"])
later = Job("later", ["touch", str(directory / "later")])
lanes = [[job("willing", "trap 'echo cleaned up; exit 9' INT;"), later], [job("stubborn", sys.argv[3])]]
ended = run(lanes, patience)
print(sorted((each.name, each.code) for each in ended))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("stubborn", "patience", "code"),
    [("", "60", 128 + signal.SIGINT), ("trap '' INT;", "0.5", 128 + signal.SIGKILL)],
    ids=["all are willing", "one is not"],
)
def test_a_signal_ends_all_jobs_as_ctrl_c_would_and_leaves_none(
    tmp_path: Path, number: int, stubborn: str, patience: str, code: int
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path), patience, stubborn],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    pids = [pid_in(tmp_path / f"{name}{suffix}") for name in ("willing", "stubborn") for suffix in ("", "-child")]
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert signal.Signals(number).name in errors.decode()
    expected = [("later", NOT_RUN), ("stubborn", code), ("willing", 9)]
    assert str(expected) == output.decode().splitlines()[-1]
    assert b"cleaned up" in output
    assert not (tmp_path / "later").exists()
    wait_until(lambda: all(gone(pid) for pid in pids), "all are gone", 60)


NESTED = """
import sys
from dev.beside import Job, run
inner = "import sys; from dev.beside import Job, run; run([[Job('in', ['sh', '-c', sys.argv[1]])]], 600)"
run([[Job("out", [sys.executable, "-c", inner, sys.argv[1]], live=True)]], 0.5)
"""


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="nothing ties a job to its parent's life")
def test_a_run_within_a_run_that_is_killed_before_its_jobs_end_takes_them_along(tmp_path: Path) -> None:
    """The inner job hears no Ctrl-C, and the inner run is patient for longer than the outer one is."""
    script = f"trap '' INT; echo $$ >{tmp_path}/pid; exec sleep 600"
    # The killed one has no time to take its outputs away.
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", NESTED, script]
    with subprocess.Popen(command, cwd=CHECKOUT, env=environment, stderr=subprocess.DEVNULL) as process:
        pid = pid_in(tmp_path / "pid")
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        wait_until(lambda: gone(pid), "the inner job is gone", 60)


def test_the_handlers_of_signals_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    run([[shell("one", "true")]])
    assert before == signal.getsignal(signal.SIGTERM)
