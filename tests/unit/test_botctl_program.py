"""``botctl`` as a program: its help, what it loads, what it needs, and outputs that cannot be written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from botctl.program import COMMANDS
from botctl.program import botctl as program
from tests.support.child_environment import child_environment
from tests.support.scripted_service import ScriptedService

BOT = "0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11"
LOADED = """
import os, sys
def leave(code):
    print(*sys.modules, file=sys.stderr, flush=True)
    leave.original(code)
leave.original, os._exit = os._exit, leave
from botctl.entry import main
main()
"""
HEAVY = ("google", "grpc", "rich", "ssl", "asyncio")


def loaded(*arguments: str, **variables: str) -> set[str]:
    """The modules that a run loads, in a process of its own."""
    command = [sys.executable, "-c", LOADED, *arguments]
    env = {**child_environment(), **variables}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)
    return set(done.stderr.splitlines()[-1].split())


def test_a_run_loads_what_its_own_command_needs_and_nothing_further(scripted: ScriptedService) -> None:
    """So a list takes half of the CPU that loading everything takes, and a TAB a third."""
    scripted.add(BOT)
    command_names = {
        "TAB for a command": loaded(_BOTCTL_COMPLETE="bash_complete", COMP_WORDS="botctl st", COMP_CWORD="1"),
        "help": loaded("--help"),
    }
    for what, modules in command_names.items():
        assert set() == modules & set(HEAVY), what
        assert set() == {each for each in modules if each.startswith("botctl.commands.")}, what
    target = scripted.target
    listing = {"table": loaded("list", "--target", target), "json": loaded("list", "-o", "json", "--target", target)}
    for modules in listing.values():
        assert {"botctl.commands", "botctl.commands.list"} == {
            each for each in modules if each.startswith("botctl.commands")
        }
        assert set() == modules & {"rich.live", "rich.progress", "botctl.problems", "importlib.metadata", "grpc_status"}
        messages = {each.rpartition(".")[2] for each in modules if each.startswith("botmaker.container.v1.")}
        assert {"container_manager_pb2", "container_manager_pb2_grpc"} == messages
    assert "rich" not in listing["json"] | listing["table"], "nor in a pipe"
    words = {"COMP_WORDS": "botctl start ", "COMP_CWORD": "2", "BOTCTL_TARGET": target}
    assert "rich" not in loaded(_BOTCTL_COMPLETE="bash_complete", **words)


def test_the_help_of_the_program_has_the_first_sentence_of_each_commands_own() -> None:
    context = click.Context(program)
    own = {name: program.get_command(context, name).get_short_help_str(limit=200) for name in COMMANDS}  # type: ignore[union-attr]
    assert own == COMMANDS


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_its_extra_it_says_in_one_line_what_to_install(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from botctl.entry import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code], env=child_environment(), capture_output=True, text=True, check=False, timeout=120
    )
    line = f"botctl needs {missing}, which is not installed: install the extra 'cli', as in pip install '.[cli]'\n"
    assert (1, "", line) == (ended.returncode, ended.stdout, ended.stderr)


def test_a_module_of_its_own_that_is_missing_is_not_taken_for_the_extra() -> None:
    code = "import sys; sys.modules['botctl.session'] = None; from botctl.entry import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code, "list"], env=child_environment(), capture_output=True, check=False
    )
    assert b"ModuleNotFoundError" in ended.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device here")
def test_a_full_disk_is_reported_in_one_line(scripted: ScriptedService) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = started("list", "-o", "json", target=scripted.target, stdout=full)
    assert (1, b"Error: the output cannot be written: No space left on device\n") == (ended.returncode, ended.stderr)


def test_closed_outputs_do_not_make_it_fail(scripted: ScriptedService) -> None:
    command = ["sh", "-c", 'exec "$0" -m botctl list >&- 2>&-', sys.executable]
    env = {**child_environment(), "BOTCTL_TARGET": scripted.target}
    assert 0 == subprocess.run(command, env=env, check=False, timeout=120).returncode


def test_what_a_locale_cannot_write_is_replaced(scripted: ScriptedService) -> None:
    scripted.add(BOT, image="café")
    ended = started("list", target=scripted.target, stdout=subprocess.PIPE, PYTHONIOENCODING="ascii")
    assert (0, True, b"") == (ended.returncode, b"caf?" in ended.stdout, ended.stderr)


def started(*arguments: str, target: str, stdout: Any, **further: str) -> subprocess.CompletedProcess[bytes]:
    """The program in a separate process."""
    command = [sys.executable, "-m", "botctl", *arguments]
    env = {**child_environment(), "BOTCTL_TARGET": target, **further}
    return subprocess.run(command, env=env, stdout=stdout, stderr=subprocess.PIPE, check=False, timeout=120)
