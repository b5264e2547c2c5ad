"""``botctl secrets`` and ``botctl files``: contents come from files and standard input, and are shown nowhere."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from botctl.exit_codes import ExitCode
from botmaker.container.v1 import bot_provisioner_pb2 as pb
from container_manager.errors import InvalidStateError, ServiceNotAllowedError
from tests.support.child_environment import child_environment
from tests.support.scripted_service import ScriptedService
from tests.unit.botctl_runs import Run, complaint, document

BOT = "0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11"
VALUE = b"\x00the-secret-value\xff\n"
MIB = 1024 * 1024


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_bytes(VALUE)
    return path


def piped(scripted: ScriptedService, *arguments: str, given: bytes = VALUE) -> subprocess.CompletedProcess[bytes]:
    """Run with standard input from a pipe."""
    command = [sys.executable, "-m", "botctl", *arguments]
    environment = {**child_environment(), "BOTCTL_TARGET": scripted.target}
    return subprocess.run(command, input=given, env=environment, capture_output=True, check=False, timeout=120)


@pytest.mark.parametrize("noun", ["secrets", "files"])
def test_contents_are_sent_byte_for_byte_from_files_and_need_no_container(
    botctl_run: Run, scripted: ScriptedService, secret: Path, tmp_path: Path, noun: str
) -> None:
    (tmp_path / "a=@b").write_bytes(b"")
    result = botctl_run(noun, "put", BOT.upper(), f"GATEWAY_TOKEN=@{secret}", f"EMPTY=@{tmp_path}/a=@b")
    assert (0, f"{BOT}  written\n", "") == (result.exit_code, result.stdout, result.stderr)
    ((method, request),) = scripted.requests
    assert {"GATEWAY_TOKEN": VALUE, "EMPTY": b""} == dict(request.secrets if noun == "secrets" else request.files)
    assert (BOT, "PutSecrets" if noun == "secrets" else "PutFiles") == (request.bot_id, method)


@pytest.mark.parametrize("noun", ["secrets", "files"])
def test_a_content_comes_from_standard_input(scripted: ScriptedService, noun: str) -> None:
    ended = piped(scripted, noun, "put", BOT, "GATEWAY_TOKEN=@-")
    assert (0, f"{BOT}  written\n".encode(), b"") == (ended.returncode, ended.stdout, ended.stderr)
    (request,) = (request for _, request in scripted.requests)
    assert {"GATEWAY_TOKEN": VALUE} == dict(request.secrets if noun == "secrets" else request.files)


def test_a_pipe_that_gives_nothing_replaces_no_content(scripted: ScriptedService) -> None:
    ended = piped(scripted, "secrets", "put", BOT, "GATEWAY_TOKEN=@-", given=b"")
    assert (ExitCode.USAGE, []) == (ended.returncode, scripted.requests)
    assert b"Error: standard input is empty" in ended.stderr


def test_a_beginning_names_a_bot_that_has_a_container(botctl_run: Run, scripted: ScriptedService, secret: Path) -> None:
    scripted.add(BOT)
    assert 0 == botctl_run("secrets", "put", "0b5", f"A=@{secret}").exit_code
    assert [BOT] == [request.bot_id for request in scripted.seen("PutSecrets")]
    assert "no bot id starts with" in complaint(botctl_run("secrets", "list", "ff"), ExitCode.NOT_FOUND)


@pytest.mark.parametrize("noun", ["secrets", "files"])
@pytest.mark.parametrize("text", ["TOKEN=sk-the-value", "sk-the-value", "=@file", "TOKEN=@", "TOKEN@sk-the-value", "="])
def test_a_value_on_the_command_line_is_refused_and_not_repeated(
    botctl_run: Run, scripted: ScriptedService, noun: str, text: str
) -> None:
    result = botctl_run(noun, "put", BOT, text)
    said = complaint(result, ExitCode.USAGE)
    assert "write NAME=@FILE, or NAME=@- for standard input; a content never goes on the command line" in said
    assert "the-value" not in result.output + result.stderr
    assert [] == scripted.requests


def test_a_mistaken_source_is_one_line_and_nothing_is_sent(
    botctl_run: Run, scripted: ScriptedService, secret: Path, tmp_path: Path
) -> None:
    large = tmp_path / "large"
    large.touch()
    os.truncate(large, 3 * MIB + 1)
    half = tmp_path / "half"
    half.write_bytes(bytes(2 * MIB))
    for sources, said in {
        (f"A=@{tmp_path}/none",): f"there is no file {tmp_path}/none",
        (f"A=@{tmp_path}",): f"{tmp_path} is not a file",
        (f"A=@{secret}", f"A=@{secret}"): "'A' is given twice",
        ("A=@-", "B=@-"): "only one content can come from standard input",
        (f"A=@{large}",): "has more than 3 MiB",
        (f"A=@{half}", f"B=@{half}"): "more than 3 MiB",
        (): "name at least one secret",
    }.items():
        assert said in complaint(botctl_run("secrets", "put", BOT, *sources), ExitCode.USAGE)
    assert [] == scripted.requests
    assert b"more than 3 MiB" in piped(scripted, "files", "put", BOT, "A=@-", given=bytes(3 * MIB + 1)).stderr
    assert [] == scripted.requests


def test_a_terminal_is_refused_because_it_would_show_what_is_typed(scripted: ScriptedService) -> None:
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "botctl", "--target", scripted.target, "secrets", "put", BOT, "A=@-"]
    ended = subprocess.run(
        command, stdin=terminal, env=child_environment(), capture_output=True, text=True, check=False, timeout=120
    )
    os.close(controller)
    os.close(terminal)
    assert ExitCode.USAGE == ended.returncode
    assert "standard input is a terminal" in ended.stderr
    assert [] == scripted.requests


def test_all_others_are_removed_only_when_asked_for(botctl_run: Run, scripted: ScriptedService, secret: Path) -> None:
    botctl_run("secrets", "put", BOT, f"A=@{secret}")
    botctl_run("secrets", "put", BOT, f"A=@{secret}", "--replace-all")
    botctl_run("secrets", "put", BOT, "--replace-all")
    assert [(False, 1), (True, 1), (True, 0)] == [
        (request.replace_all, len(request.secrets)) for request in scripted.seen("PutSecrets")
    ]


def test_secrets_are_listed_without_contents(botctl_run: Run, scripted: ScriptedService) -> None:
    result = botctl_run("secrets", "list", BOT)
    assert ["NAME", "SIZE", "WRITTEN"] == result.stdout.split()
    assert [] == document(botctl_run("secrets", "list", BOT, "-o", "json"))
    scripted.secrets = [pb.SecretInfo(name="A", size_bytes=2048), pb.SecretInfo(name="B", size_bytes=1)]
    scripted.secrets[0].time.FromJsonString("2026-11-24T08:30:00.5Z")
    lines = botctl_run("secrets", "list", BOT).stdout.splitlines()
    assert ["A", "2.0", "KiB"] == lines[1].split()[:3]
    assert lines[1].endswith(" ago")
    shown = document(botctl_run("secrets", "list", BOT, "-o", "json"))
    assert {"name": "A", "size_bytes": 2048, "time": "2026-11-24T08:30:00.500000000Z"} == shown[0]
    assert ["A", "B"] == [each["name"] for each in shown]


def test_secrets_are_removed_by_name_or_all_of_them_and_never_all_by_mistake(
    botctl_run: Run, scripted: ScriptedService
) -> None:
    assert f"{BOT}  removed\n" == botctl_run("secrets", "rm", BOT, "A", "B").stdout
    assert f"{BOT}  removed\n" == botctl_run("secrets", "rm", BOT, "--all").stdout
    assert [["A", "B"], []] == [list(request.names) for request in scripted.seen("DeleteSecrets")]
    complaint(botctl_run("secrets", "rm", BOT), ExitCode.USAGE)
    complaint(botctl_run("secrets", "rm", BOT, "A", "--all"), ExitCode.USAGE)
    assert 2 == len(scripted.seen("DeleteSecrets"))


@pytest.mark.parametrize(("outcome", "word"), [(1, "reloaded"), (2, "restarted"), (3, "not running"), (0, "done")])
def test_a_reload_tells_how_the_bot_came_to_its_secrets(
    botctl_run: Run, scripted: ScriptedService, outcome: int, word: str
) -> None:
    scripted.reloaded = pb.ReloadSecretsResponse(outcome=outcome, confirmed=["GATEWAY_TOKEN"])  # type: ignore[arg-type]
    assert f"{BOT}  {word}\n" == botctl_run("secrets", "reload", BOT).stdout
    shown = document(botctl_run("secrets", "reload", BOT, "--or-restart", "-o", "json"))
    assert [{"bot_id": BOT, "result": word, "error": None, "confirmed": ["GATEWAY_TOKEN"]}] == shown
    expected = [pb.ReloadSecretsRequest.MODE_RELOAD, pb.ReloadSecretsRequest.MODE_RELOAD_OR_RESTART]
    assert expected == [request.mode for request in scripted.seen("ReloadSecrets")]


def test_the_services_refusals_are_told(botctl_run: Run, scripted: ScriptedService, secret: Path) -> None:
    scripted.fail("DeleteSecrets", InvalidStateError("the bot has a container; remove it first", bot_id=BOT))
    expected = f"{BOT}: the bot has a container; remove it first"
    assert expected == complaint(botctl_run("secrets", "rm", BOT, "--all"), ExitCode.REFUSED)
    scripted.fail("PutFiles", ServiceNotAllowedError("this listener does not serve BotProvisioner"))
    assert "does not serve" in complaint(botctl_run("files", "put", BOT, f"a=@{secret}"), ExitCode.REFUSED)


def test_results_are_json_too_and_have_no_contents(botctl_run: Run, secret: Path) -> None:
    result = botctl_run("secrets", "put", BOT, f"B=@{secret}", f"A=@{secret}", "-o", "json")
    assert [{"bot_id": BOT, "result": "written", "error": None, "names": ["A", "B"]}] == document(result)
    result = botctl_run("files", "put", BOT, f"a/b=@{secret}", "-o", "json")
    assert [{"bot_id": BOT, "result": "written", "error": None, "paths": ["a/b"]}] == document(result)
    assert [{"bot_id": BOT, "result": "removed", "error": None, "names": ["A"]}] == document(
        botctl_run("secrets", "rm", BOT, "A", "-o", "json")
    )
