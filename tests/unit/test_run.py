"""A command of `dev.run`: a signal ends it with all that it started, and nothing of it outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dev.remains import start_ticks
from tests.support.waiting import wait_until

CHECKOUT = Path(__file__).parents[2]
# In a session of its own, as the keeper is; without an engine.
PROGRAM = """
import sys, dev.run
dev.run.PATIENCE_SECONDS = float(sys.argv[1])
sys.exit(dev.run.run(sys.argv[2:], "unix:///none"))
"""


def started(script: str, patience: float = 60) -> subprocess.Popen[bytes]:
    """A shell's script, run so."""
    command = [sys.executable, "-c", PROGRAM, str(patience), "sh", "-c", script]
    return subprocess.Popen(command, cwd=CHECKOUT, start_new_session=True, stderr=subprocess.PIPE)


def pid_in(file: Path) -> int:
    return int(wait_until(lambda: file.exists() and file.read_text().strip(), f"{file.name} is written"))


def is_gone(file: Path) -> bool:
    return start_ticks(pid_in(file)) is None


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Its exit code, and what it printed on its error output."""
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors.decode()


@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("kill -9 $$", 137), ("exec /nonexistent", 127)])
def test_the_exit_code_is_that_of_the_command_in_a_shell(script: str, code: int) -> None:
    assert code == ended(started(script))[0]


def test_a_command_that_is_not_there_fails_with_its_name() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "1", "/nonexistent/program"],
        cwd=CHECKOUT,
        start_new_session=True,
        stderr=subprocess.PIPE,
        env={**os.environ, "PATH": "/nonexistent"},
    )
    code, errors = ended(process)
    assert 127 == code
    assert "/nonexistent/program" in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_interrupts_all_that_runs_and_each_may_clear_up(tmp_path: Path, number: signal.Signals) -> None:
    inner = f"trap 'touch {tmp_path}/cleared; exit 9' INT; echo $$ >{tmp_path}/inner; while :; do sleep 0.1; done"
    process = started(f"sh -c '{inner.replace(chr(39), chr(34))}'; exit 8")
    pid_in(tmp_path / "inner")
    process.send_signal(number)
    code, errors = ended(process)
    assert code
    assert number.name in errors
    assert (tmp_path / "cleared").exists()
    assert is_gone(tmp_path / "inner")


STUBBORN = "trap '' INT TERM HUP; echo $$ >{0}/pid; sleep 600 & echo $! >{0}/child; while :; do sleep 0.1; done"


def test_what_does_not_end_in_time_is_killed_with_its_children(tmp_path: Path) -> None:
    process = started(STUBBORN.format(tmp_path), patience=0.2)
    pid_in(tmp_path / "child")
    process.send_signal(signal.SIGTERM)
    assert 128 + signal.SIGKILL == ended(process)[0]
    assert is_gone(tmp_path / "pid")
    assert is_gone(tmp_path / "child")


def test_another_ctrl_c_kills_at_once(tmp_path: Path) -> None:
    process = started(STUBBORN.format(tmp_path), patience=600)
    pid_in(tmp_path / "child")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert any(b"ending all" in line for line in process.stderr)
    process.send_signal(signal.SIGINT)
    assert 128 + signal.SIGKILL == ended(process)[0]
    assert is_gone(tmp_path / "child")


def test_a_signal_that_comes_while_the_command_starts_ends_it_too(tmp_path: Path) -> None:
    program = f"""
import os, pathlib, signal, subprocess
start = subprocess.Popen
def started(*arguments, **options):
    process = start(*arguments, **options)
    while not pathlib.Path({str(tmp_path / "pid")!r}).exists():
        pass
    os.kill(os.getpid(), signal.SIGINT)
    return process
subprocess.Popen = started
{PROGRAM}"""
    command = [sys.executable, "-c", program, "60", "sh", "-c", f"echo $$ >{tmp_path}/pid; exec sleep 600"]
    process = subprocess.Popen(command, cwd=CHECKOUT, start_new_session=True, stderr=subprocess.PIPE)
    assert 128 + signal.SIGINT == ended(process)[0]
    assert is_gone(tmp_path / "pid")


def test_what_a_command_leaves_running_ends_with_it(tmp_path: Path) -> None:
    process = started(f"sleep 600 & echo $! >{tmp_path}/pid", patience=0.2)
    assert 0 == ended(process)[0]
    assert is_gone(tmp_path / "pid")


def test_the_process_that_waits_passes_a_signal_on_and_takes_the_exit_code(tmp_path: Path) -> None:
    """The whole program, with an engine's socket that answers a ping."""
    command = [sys.executable, "-c", WAITING, "sh", "-c", f"echo $$ >{tmp_path}/pid; exec sleep 600"]
    with subprocess.Popen(command, cwd=CHECKOUT, stderr=subprocess.DEVNULL) as process:
        pid_in(tmp_path / "pid")
        process.send_signal(signal.SIGTERM)
        assert 128 + signal.SIGINT == process.wait(60)
    assert is_gone(tmp_path / "pid")


WAITING = """
import sys, dev.run
dev.run._KEEPER = [sys.executable, "-c", "import sys, dev.run; sys.exit(dev.run.run(sys.argv[1:], 'unix:///none'))"]
sys.exit(dev.run.main(["--", *sys.argv[1:]]))
"""
