"""No text of a bot, a caller or the engine commands the terminal of the operator, or reorders what it shows."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from botctl.rendering.unsafe_text import UNSAFE
from botmaker.container.v1 import bot_provisioner_pb2 as provisioner_pb
from botmaker.container.v1 import container_maintainer_pb2 as maintainer_pb
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from container_manager.errors import StartFailedError
from container_manager.observability import log_format
from tests.support.scripted_service import ScriptedService, entry, snapshot
from tests.unit.botctl_runs import Run

BOT = "0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11"
# CSI and OSC in both forms, a line break of C1, DEL, and marks that reorder text.
HOSTILE = "\x9b2J\u202ea\x1b[2J\x9d0;t\x9cb\x85\x7fc\u2066\u200f\u061c\u2028d"
SHOWN = r"\x9b2J\u202ea\x1b[2J"
LINES = [
    "list",
    "list --wide",
    "list --format {name}{labels}{image}",
    "status",
    "watch",
    "stats",
    "stats --no-stream",
    "secrets list",
    "backup list",
    "version",
    "start",
    "start --wait",
    "upgrade --image bot:2",
]
DOCUMENTS = ["list", "status", "inspect", "watch", "logs", "stats --no-stream", "backup list", "action doctor"]


def unsafe(text: str) -> list[str]:
    return re.findall(rf"(?!\n){UNSAFE}", text)


@pytest.fixture
def hostile(scripted: ScriptedService) -> ScriptedService:
    """A service that has such a text in every field that is free."""
    texts: dict[str, Any] = dict.fromkeys(("name", "image", "hostname", "node", "image_id", "error"), HOSTILE)
    scripted.add(BOT, **texts, labels={HOSTILE: HOSTILE}, state=pb.CONTAINER_STATE_EXITED)
    scripted.add(orphan=True, **texts)
    for status in scripted.containers.values():
        status.container_id = HOSTILE
    for each in (BOT, ""):
        scripted.stats.containers.add(bot_id=each, container_id=HOSTILE)
    scripted.samples = [[observer_pb.WatchStatsResponse(container_id=HOSTILE)]]
    scripted.watches = [[snapshot(status) for status in scripted.containers.values()]]
    scripted.logs = [[entry(1, HOSTILE.encode())]]
    scripted.secrets = [provisioner_pb.SecretInfo(name=HOSTILE)]
    scripted.backups = [maintainer_pb.Backup(backup_id="b", image=HOSTILE)]
    scripted.info = observer_pb.GetServerInfoResponse(version=HOSTILE, backend=HOSTILE, backend_version=HOSTILE)
    scripted.actions = [
        [
            maintainer_pb.RunActionResponse(stdout=HOSTILE.encode()),
            maintainer_pb.RunActionResponse(end=maintainer_pb.ActionEnd()),
        ]
    ]
    scripted.operations = [[maintainer_pb.UpgradeContainerResponse(message=HOSTILE), StartFailedError(HOSTILE)]]
    scripted.configs[BOT] = pb.ContainerConfig(environment={"A": HOSTILE}, command=[HOSTILE])
    scripted.fail("StartContainer", StartFailedError(HOSTILE))
    return scripted


def words(command: str) -> list[str]:
    name, *rest = command.split()
    if name == "action":
        return [name, BOT, *rest]
    of_bot = name in ("status", "inspect", "logs", "start", "upgrade") or command == "secrets list"
    return [name, *rest, *([BOT] if of_bot else [])]


@pytest.mark.parametrize("command", LINES)
def test_lines_for_people_show_it_and_do_not_do_it(botctl_run: Run, hostile: ScriptedService, command: str) -> None:
    result = botctl_run(*words(command))
    shown = result.stdout + result.stderr
    assert [] == unsafe(shown)
    assert SHOWN in shown


def test_a_result_shows_it_too(botctl_run: Run, hostile: ScriptedService) -> None:
    hostile.operations = [[maintainer_pb.CreateBackupResponse(backup=maintainer_pb.Backup(backup_id=HOSTILE))]]
    shown = botctl_run("backup", "create", BOT).stdout
    assert [] == unsafe(shown)
    assert f"{BOT}  backed up {SHOWN}" in shown


@pytest.mark.parametrize("output", ["json", "yaml"])
@pytest.mark.parametrize("command", DOCUMENTS)
def test_documents_have_the_same_values_with_escapes(
    botctl_run: Run, hostile: ScriptedService, command: str, output: str
) -> None:
    result = botctl_run(*words(command), "-o", output)
    assert 0 == result.exit_code, result.output
    assert [] == unsafe(result.stdout)
    assert r"\u009b2J" in result.stdout

    def texts(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [text for pair in value.items() for each in pair for text in texts(each)]
        return [text for each in value for text in texts(each)] if isinstance(value, list) else [value]

    if output == "yaml":
        read = list(yaml.safe_load_all(result.stdout))
    elif command in ("watch", "logs"):
        read = [json.loads(line) for line in result.stdout.splitlines()]
    else:
        read = [json.loads(result.stdout)]
    assert HOSTILE in texts(read)


def test_the_unsafe_characters_are_those_of_the_servers_log() -> None:
    characters = [chr(code) for code in range(0x110000)]
    assert [each for each in characters if log_format._UNSAFE.match(each)] == [
        each for each in characters if re.match(UNSAFE, each)
    ]
