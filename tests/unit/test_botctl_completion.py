"""The shell completes commands, bot ids and files."""

from __future__ import annotations

import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from tests.support.scripted_service import ScriptedService
from tests.unit.botctl_runs import run

BOT = "0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11"
OTHER = "d2000000-6f0a-4c55-9c3e-2f1d9a7e8b11"
EXITED = pb.CONTAINER_STATE_EXITED


def completed(shell: str, words: str, position: int, target: str) -> list[str]:
    result = run(BOTCTL_TARGET=target, _BOTCTL_COMPLETE=f"{shell}_complete", COMP_WORDS=words, COMP_CWORD=str(position))
    assert result.exit_code in (0, 1)
    assert "" == result.stderr
    return result.stdout.split()


def test_the_shell_completes_bot_ids_that_are_not_there_yet(scripted: ScriptedService) -> None:
    scripted.add(BOT)
    scripted.add(OTHER, state=EXITED)
    scripted.add(orphan=True)
    assert [f"plain,{BOT}", f"plain,{OTHER}"] == completed("bash", "botctl start ", 2, scripted.target)
    assert [f"plain,{OTHER}"] == completed("bash", f"botctl start {BOT} ", 3, scripted.target)
    assert ["plain", OTHER, "exited"] == completed("zsh", "botctl logs d", 2, scripted.target)
    assert [f"plain,{BOT}"] == completed("bash", f"botctl --target {scripted.target} stop 0B", 4, "unix:///nowhere")


@pytest.mark.parametrize("option", ["--token-file", "--tls-ca", "--tls-cert", "--tls-key"])
@pytest.mark.parametrize(("words", "position"), [("botctl {} ", 2), ("botctl list {} ", 3)])
def test_the_shell_completes_the_files_of_options(option: str, words: str, position: int) -> None:
    assert ["file,"] == completed("bash", words.format(option), position, "unix:///nowhere/s.sock")


def test_fish_and_zsh_show_what_a_command_does(scripted: ScriptedService) -> None:
    scripted.add(BOT)
    assert (
        f"plain,{BOT}\trunning\n"
        == run(
            BOTCTL_TARGET=scripted.target, _BOTCTL_COMPLETE="fish_complete", COMP_WORDS="botctl start ", COMP_CWORD=""
        ).stdout
    )
    assert ["plain", "stop", "Stop", "bots."] == completed("zsh", "botctl sto", 1, scripted.target)


@pytest.mark.parametrize("target", ["unix:///nowhere/s.sock", "tcp://127.0.0.1:1", "nonsense"])
def test_the_completion_is_silent_without_a_service(target: str) -> None:
    assert [] == completed("bash", "botctl start ", 2, target)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_completion(shell: str) -> None:
    result = run(_BOTCTL_COMPLETE=f"{shell}_source")
    assert "_BOTCTL_COMPLETE" in result.stdout
    assert result.stdout.rstrip() == run("completion", shell).stdout.rstrip()
