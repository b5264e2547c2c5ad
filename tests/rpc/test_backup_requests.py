"""Requests about backups: what a retry and a call beside another get, and a service that has no root for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from botmaker.container.v1 import container_maintainer_pb2 as pb
from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.rpc import taking
from container_manager.rpc.stream_kinds import MAINTENANCE
from container_manager_client import connect
from tests.fuzz.conversations import Call
from tests.rpc.backup_calls import bot_with_state, created, listed, restored
from tests.rpc.conftest import ServeLooped, ServeOn
from tests.support.calls import Calls, fails_with
from tests.support.memory_backend import MemoryBackend, MemoryBots
from tests.support.silent_reader import silent_reader
from tests.support.waiting import wait_until


@pytest.fixture
def bot_id(bots: MemoryBots, calls: Calls, states: Path) -> str:
    return bot_with_state(bots, calls, states)


def test_without_a_state_root_there_are_no_backups(
    serve_on: ServeOn, unix: str, memory: MemoryBackend, bots: MemoryBots, backups: Path
) -> None:
    """An archive without the state would pass for a whole one."""
    memory.states = None
    bot_id = bots.new()
    memory.add(bot_id)
    with serve_on(unix) as (address,), grpc.insecure_channel(f"unix:{address[7:]}") as channel:
        for stop_and_restart in (False, True):
            with fails_with("FAILED_PRECONDITION", "BACKUP_UNAVAILABLE"):
                created(ContainerMaintainerStub(channel), bot_id, stop_and_restart=stop_and_restart)
    assert [] == list(backups.iterdir())
    assert [] == memory.seen("pause", "stop_container")


def test_the_same_request_again_gives_the_outcome_also_after_a_restart_of_the_service(
    serve_on: ServeOn, unix: str, bot_id: str, maintainer: ContainerMaintainerStub, backups: Path
) -> None:
    backup = created(maintainer, bot_id, "the-same")
    assert backup == created(maintainer, bot_id, "the-same")
    with serve_on(unix) as (address,), grpc.insecure_channel(address.replace("unix://", "unix:")) as channel:
        assert backup == created(ContainerMaintainerStub(channel), bot_id, "the-same")
    assert 2 == len(list(backups.iterdir()))


def test_other_arguments_are_refused(maintainer: ContainerMaintainerStub, bot_id: str, bots: MemoryBots) -> None:
    backup = created(maintainer, bot_id, "the-same")
    with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
        created(maintainer, bot_id, "the-same", stop_and_restart=True)
    with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
        created(maintainer, bots.new(), "the-same")
    with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
        restored(maintainer, bot_id, backup.backup_id, "the-same")


def test_a_call_joins_the_operation_in_progress_and_another_request_is_refused(
    maintainer: ContainerMaintainerStub, bot_id: str, memory: MemoryBackend
) -> None:
    with memory.held("unpause") as gate:
        request = pb.CreateBackupRequest(bot_id=bot_id, request_id="the-same")
        first = maintainer.CreateBackup(request, timeout=60)
        memory.await_calls("unpause")
        second = maintainer.CreateBackup(request, timeout=60)
        assert next(second).HasField("progress")
        with fails_with("ABORTED", "OPERATION_IN_PROGRESS"):
            created(maintainer, bot_id)
        with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
            created(maintainer, bot_id, "the-same", stop_and_restart=True)
        gate.open()
        assert [*first][-1] == [*second][-1]


@pytest.mark.parametrize("has_ended", [True, False], ids=["one that has ended", "one under way"])
def test_readers_that_take_no_message_keep_their_places_for_a_moment_after_the_end_of_the_operation(  # noqa: PLR0917 - fixtures
    serve_looped: ServeLooped,
    unix: str,
    memory: MemoryBackend,
    bots: MemoryBots,
    states: Path,
    monkeypatch: pytest.MonkeyPatch,
    has_ended: bool,
) -> None:
    # If it has ended, long enough for all to have arrived before the first one has had its time.
    monkeypatch.setattr(taking, "TAKE_SECONDS", 15.0 if has_ended else 2.0)
    path = b"/botmaker.container.v1.ContainerMaintainer/CreateBackup"
    with serve_looped(unix) as looped, connect(unix) as channel, ExitStack() as stack:
        bot_id = bot_with_state(bots, Calls(ContainerManagerStub(channel)), states)
        maintainer = ContainerMaintainerStub(channel)
        request = pb.CreateBackupRequest(bot_id=bot_id, request_id="the-same")
        gate = stack.enter_context(memory.held("unpause"))
        if has_ended:
            gate.open()
            created(maintainer, bot_id, "the-same")
        stack.enter_context(silent_reader(unix, [Call(path, request.SerializeToString())] * 3))
        wait_until(lambda: looped.server.streams.count(MAINTENANCE) == 3, "they watch it")
        if not has_ended:
            time.sleep(2.5)
            assert 3 == looped.server.streams.count(MAINTENANCE)
            gate.open()
        wait_until(lambda: looped.server.streams.count(MAINTENANCE) == 0, "their places are free")
        assert bot_id == created(maintainer, bot_id, "the-same").bot_id


def test_it_goes_on_when_its_caller_goes_away(
    maintainer: ContainerMaintainerStub, bot_id: str, memory: MemoryBackend
) -> None:
    with memory.held("unpause") as gate:
        call = maintainer.CreateBackup(pb.CreateBackupRequest(bot_id=bot_id, request_id="r"), timeout=60)
        memory.await_calls("unpause")
        call.cancel()
        gate.open()
    wait_until(lambda: len(listed(maintainer)) == 1, "the backup is there")


def test_the_other_verbs_wait_for_it(
    maintainer: ContainerMaintainerStub, bot_id: str, memory: MemoryBackend, calls: Calls
) -> None:
    with memory.held("unpause"):
        call = maintainer.CreateBackup(pb.CreateBackupRequest(bot_id=bot_id, request_id="r"), timeout=60)
        memory.await_calls("unpause")
        with fails_with("ABORTED", "OPERATION_IN_PROGRESS"):
            calls.stop(bot_id, timeout=2)
        assert calls.status(bot_id) is not None
    assert [*call][-1].HasField("backup")


@pytest.mark.parametrize("request_id", ["", "x" * 129, "a b", "\u00fc"])
def test_an_invalid_request_id_is_refused(maintainer: ContainerMaintainerStub, bot_id: str, request_id: str) -> None:
    for request, call in (
        (pb.CreateBackupRequest(bot_id=bot_id, request_id=request_id), maintainer.CreateBackup),
        (pb.RestoreBackupRequest(bot_id=bot_id, backup_id="b", request_id=request_id), maintainer.RestoreBackup),
    ):
        with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
            next(call(request, timeout=60))


def test_a_backup_id_that_is_longer_than_any_is_refused(maintainer: ContainerMaintainerStub, bot_id: str) -> None:
    """A restore that waits keeps it, also after its call."""
    for refused in (
        lambda: restored(maintainer, bot_id, "x" * 129),
        lambda: maintainer.DeleteBackup(pb.DeleteBackupRequest(backup_id="x" * 129)),
    ):
        with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
            refused()


def test_a_service_without_a_backup_root_says_so(serve_on: ServeOn, unix: str, bot_id: str, bots: MemoryBots) -> None:
    with serve_on(unix, backup_root=None) as (address,), grpc.insecure_channel(f"unix:{address[7:]}") as channel:
        maintainer = ContainerMaintainerStub(channel)
        calls: tuple[Callable[[], Any], ...] = (
            lambda: created(maintainer, bot_id),
            lambda: restored(maintainer, bot_id, "b"),
            lambda: listed(maintainer),
            lambda: maintainer.DeleteBackup(pb.DeleteBackupRequest(backup_id="b")),
        )
        for call in calls:
            with fails_with("FAILED_PRECONDITION", "BACKUP_UNAVAILABLE"):
                call()
