"""``botctl wait``: until bots are ready or have ended, and not longer than its time-out."""

from __future__ import annotations

import pytest

from botctl.exit_codes import ExitCode
from botmaker.container.v1 import container_manager_pb2 as pb
from tests.support.scripted_service import ScriptedService
from tests.unit.botctl_runs import Run, complaint

BOT = "0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botctl.waiting.HELD_SECONDS", 0)
    monkeypatch.setattr("botctl.waiting._LOOK_SECONDS", 0)
    monkeypatch.setattr("botctl.commands.wait._LOOK_SECONDS", 0)


def test_it_waits_until_the_bot_is_healthy_and_starts_nothing(botctl_run: Run, scripted: ScriptedService) -> None:
    scripted.add(BOT, state=pb.CONTAINER_STATE_RUNNING, health=pb.HEALTH_STATUS_HEALTHY)
    result = botctl_run("wait", "0b")
    assert (0, f"{BOT}  healthy\n") == (result.exit_code, result.stdout)
    assert [] == scripted.seen("StartContainer")


def test_a_bot_that_has_ended_is_not_waited_for(botctl_run: Run, scripted: ScriptedService) -> None:
    scripted.add(BOT, state=pb.CONTAINER_STATE_EXITED, exit_code=3, exit_reason=pb.EXIT_REASON_ERROR)
    result = botctl_run("wait", BOT)
    assert ExitCode.NOT_UP == result.exit_code
    assert f"Error: {BOT}: its process ended with exit code 3 (error)" == result.stderr.splitlines()[0]


def test_the_end_of_a_bot_is_told_with_its_code_and_reason(botctl_run: Run, scripted: ScriptedService) -> None:
    scripted.add(BOT, state=pb.CONTAINER_STATE_EXITED, exit_code=3, exit_reason=pb.EXIT_REASON_ERROR)
    result = botctl_run("wait", "--for", "exited", BOT)
    assert (0, f"{BOT}  exited (3, error)\n") == (result.exit_code, result.stdout)


def test_a_bot_that_does_not_end_in_time_fails(botctl_run: Run, scripted: ScriptedService) -> None:
    scripted.add(BOT, state=pb.CONTAINER_STATE_RUNNING)
    said = complaint(botctl_run("wait", "--for", "exited", "--timeout", "10ms", BOT), ExitCode.NOT_UP)
    assert f"{BOT}: has not ended within 0.01 s" == said


def test_a_bot_without_a_container_is_not_found(botctl_run: Run, scripted: ScriptedService) -> None:
    assert f"{BOT}: it has no container" == complaint(botctl_run("wait", "--for", "exited", BOT), ExitCode.NOT_FOUND)
