"""``botctl upgrade``, ``backup create`` and ``restore``: what ends an operation, and what its stream survives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from botctl.exit_codes import ExitCode
from botctl.resuming import followed, joined
from botmaker.container.v1 import container_maintainer_pb2 as pb
from container_manager.errors import (
    CapacityExceededError,
    ContainerManagerError,
    EngineTimeoutError,
    EngineUnavailableError,
    ImageRegistryUnavailableError,
    NodeUnavailableError,
    ShuttingDownError,
)
from tests.support.scripted_service import AWAY, ScriptedService
from tests.unit.botctl_runs import Run, complaint, document

OUTCOMES = [
    ImageRegistryUnavailableError("the registry does not answer"),
    EngineUnavailableError("the engine is away"),
    EngineTimeoutError("the engine is too slow"),
    NodeUnavailableError("the node is away"),
]
BREAKS = [AWAY, ShuttingDownError(), grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED]
COMMANDS: dict[str, tuple[tuple[str, ...], Any, Any]] = {
    "UpgradeContainer": (
        ("upgrade", "{bot}", "--image", "bot:2"),
        pb.UpgradeContainerResponse(phase=pb.UPGRADE_PHASE_PULLING),
        pb.UpgradeContainerResponse(phase=pb.UPGRADE_PHASE_COMMITTED),
    ),
    "CreateBackup": (
        ("backup", "create", "{bot}"),
        pb.CreateBackupResponse(progress=pb.BackupProgress(message="copying")),
        pb.CreateBackupResponse(backup=pb.Backup(backup_id="b")),
    ),
    "RestoreBackup": (
        ("backup", "restore", "{bot}", "b"),
        pb.RestoreBackupResponse(phase=pb.RESTORE_PHASE_VERIFYING),
        pb.RestoreBackupResponse(phase=pb.RESTORE_PHASE_COMMITTED),
    ),
}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botctl.resuming._FIRST_PAUSE_SECONDS", 0)


@pytest.mark.parametrize("method", COMMANDS)
@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda error: error.reason)
def test_an_error_of_the_operation_is_its_outcome(
    botctl_run: Run, scripted: ScriptedService, method: str, outcome: ContainerManagerError
) -> None:
    arguments, progress, last = COMMANDS[method]
    scripted.operations = [[progress, outcome], [progress, last]]
    bot_id = scripted.add()
    result = botctl_run(*(each.format(bot=bot_id) for each in arguments))
    assert f"{bot_id}: {outcome}" == complaint(result, ExitCode.NOT_NOW)
    assert 1 == len(scripted.seen(method))


@pytest.mark.parametrize("method", COMMANDS)
@pytest.mark.parametrize("broken", BREAKS, ids=["killed", "shutting down", "cancelled", "late"])
def test_an_operation_that_goes_on_without_its_stream_is_joined(
    botctl_run: Run, scripted: ScriptedService, method: str, broken: Any
) -> None:
    arguments, progress, last = COMMANDS[method]
    scripted.operations = [[progress, broken], [broken], [progress, last]]
    bot_id = scripted.add()
    result = botctl_run(*(each.format(bot=bot_id) for each in arguments))
    assert 0 == result.exit_code, result.output
    one, *others = scripted.seen(method)
    assert [one, one] == others


class Stream:
    """A stream that gives these messages and then breaks, after some seconds of the clock."""

    def __init__(self, messages: list[str], seconds: float, clock: list[float]) -> None:
        self._messages, self._seconds, self._clock = messages, seconds, clock

    def __iter__(self) -> Iterator[str]:
        yield from self._messages
        self._clock[0] += self._seconds
        raise _BrokenError

    def cancel(self) -> None:
        """Nothing is left of it."""


class _BrokenError(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("read", [followed, joined])
def test_the_pauses_grow_until_a_stream_has_lasted(
    monkeypatch: pytest.MonkeyPatch, read: Callable[..., Iterator[str]]
) -> None:
    """A message alone shows nothing: each stream of a service that breaks them has a first one."""
    monkeypatch.setattr("botctl.resuming._FIRST_PAUSE_SECONDS", 0.2)
    clock, pauses = [0.0], []
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    streams = [Stream(["a message"], seconds, clock) for seconds in (0, 1, 1, 1, 1, 60, 0)]
    with pytest.raises(IndexError):
        list(read(lambda: streams.pop(0), lambda _: None, pauses.append))
    assert [0.2, 0.4, 0.8, 1.6, 2.0, 0.2, 0.4] == pauses


def backup(number: int, at: int) -> pb.Backup:
    made = pb.Backup(backup_id=f"b{number}")
    made.create_time.seconds = at
    return made


def kept(scripted: ScriptedService) -> list[str]:
    return [each.backup_id for each in scripted.backups]


@pytest.mark.parametrize(("keep", "left"), [(1, ["b9"]), (2, ["b3", "b9"]), (3, ["b3", "b2", "b9"])])
def test_the_backup_just_made_is_kept_whatever_the_times_of_others(
    botctl_run: Run, scripted: ScriptedService, keep: int, left: list[str]
) -> None:
    made = backup(9, at=100)
    scripted.backups = [backup(3, at=300), backup(2, at=200), made, backup(1, at=50)]
    scripted.operations = [[pb.CreateBackupResponse(backup=made)]]
    bot_id = scripted.add()
    result = botctl_run("backup", "create", bot_id, "--keep", str(keep))
    assert (0, left) == (result.exit_code, kept(scripted)), result.output
    assert f"{bot_id}: 2 of its backups have later times than the new one" in result.stderr


def test_backups_of_earlier_times_are_no_surprise(botctl_run: Run, scripted: ScriptedService) -> None:
    made = backup(9, at=100)
    scripted.backups = [made, backup(2, at=99), backup(1, at=50)]
    scripted.operations = [[pb.CreateBackupResponse(backup=made)]]
    result = botctl_run("backup", "create", scripted.add(), "--keep", "2")
    assert (0, "", ["b9", "b2"]) == (result.exit_code, result.stderr, kept(scripted))


@pytest.mark.parametrize("method", ["ListBackups", "DeleteBackup"])
def test_a_backup_is_told_of_even_if_old_ones_cannot_be_removed(
    botctl_run: Run, scripted: ScriptedService, method: str
) -> None:
    made = backup(9, at=100)
    scripted.backups = [made, backup(1, at=50)]
    scripted.fail(method, CapacityExceededError("too many calls"))
    scripted.operations = [[pb.CreateBackupResponse(backup=made)]] * 2
    bot_id = scripted.add()
    result = botctl_run("backup", "create", bot_id, "--keep", "1")
    assert f"{bot_id}  backed up b9  0 B\n" == result.stdout
    # A script that tries again what is "not possible now" would make another backup.
    message = complaint(result, ExitCode.FAILED)
    assert f"{bot_id}: backed up, but old backups are left: too many calls" == message
    (outcome,) = document(botctl_run("backup", "create", bot_id, "--keep", "1", "-o", "json"))
    assert ("backed up", "b9", []) == tuple(outcome[key] for key in ("result", "backup_id", "removed"))
    assert ("CAPACITY_EXCEEDED", 1) == tuple(outcome["error"][key] for key in ("reason", "exit_code"))
