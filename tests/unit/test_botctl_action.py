"""``botctl action``: output as it comes, the exit code, and the JSON document."""

from __future__ import annotations

import pytest

from botctl.exit_codes import ExitCode
from botmaker.container.v1 import container_maintainer_pb2 as pb
from container_manager.errors import ActionNotAllowedError
from tests.support.scripted_service import ScriptedService
from tests.unit.botctl_runs import Run, complaint, document

Event = pb.RunActionResponse
OUTPUT = (Event(stdout=b"caf\xc3"), Event(stderr=b"\x1b[2Jwarning\n"), Event(stdout=b"\xa9\n"))


def ended(exit_code: int = 0, **fields: bool | int) -> pb.RunActionResponse:
    return Event(end=pb.ActionEnd(exit_code=exit_code, **fields))


def test_output_is_passed_on_byte_for_byte(botctl_run: Run, scripted: ScriptedService) -> None:
    bot_id = scripted.add()
    scripted.actions = [[*OUTPUT, ended()]]
    result = botctl_run("action", bot_id[:10], "pairing-approve", "ABCD2345")
    assert (0, "café\n", "\x1b[2Jwarning\n") == (result.exit_code, result.stdout, result.stderr)
    (request,) = scripted.seen("RunAction")
    assert (bot_id, "pairing-approve", ["ABCD2345"]) == (request.bot_id, request.action, list(request.arguments))


@pytest.mark.parametrize(
    ("end", "what"),
    [
        (ended(3), "the action doctor ended with exit code 3"),
        (ended(124, timed_out=True), "the action doctor took too long and was ended"),
    ],
)
def test_an_action_that_fails_is_exit_code_1(
    botctl_run: Run, scripted: ScriptedService, end: pb.RunActionResponse, what: str
) -> None:
    bot_id = scripted.add()
    scripted.actions = [[Event(stdout=b"out"), end]]
    result = botctl_run("action", bot_id, "doctor")
    assert (ExitCode.FAILED, "out", f"Error: {bot_id}: {what}\n") == (result.exit_code, result.stdout, result.stderr)


def test_output_that_is_left_out_is_told(botctl_run: Run, scripted: ScriptedService) -> None:
    scripted.actions = [[ended(omitted_bytes=7)]]
    result = botctl_run("action", scripted.add(), "doctor")
    assert (0, "botctl: 7 more bytes of output are left out\n") == (result.exit_code, result.stderr)


def test_as_json_it_is_one_document(botctl_run: Run, scripted: ScriptedService) -> None:
    bot_id = scripted.add()
    scripted.actions = [[*OUTPUT, ended(3)]]
    result = botctl_run("action", bot_id, "doctor", "-o", "json")
    assert ExitCode.FAILED == result.exit_code
    (told,) = document(result)
    assert {
        "bot_id": bot_id,
        "action": "doctor",
        "exit_code": 3,
        "timed_out": False,
        "omitted_bytes": 0,
        "stdout": "café\n",
        "stderr": "\x1b[2Jwarning\n",
    } == told


def test_an_action_that_is_not_allowed_is_refused(botctl_run: Run, scripted: ScriptedService) -> None:
    scripted.fail("RunAction", ActionNotAllowedError("image bot:1 has no action of this name; it has: none"))
    said = complaint(botctl_run("action", scripted.add(), "rm"), ExitCode.REFUSED)
    assert "image bot:1 has no action of this name; it has: none" == said
