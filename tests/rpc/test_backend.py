"""What the RPC layer does with what a backend says of itself."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
import pytest

from botmaker.container.v1 import bot_provisioner_pb2 as provisioner_pb
from botmaker.container.v1 import container_maintainer_pb2 as maintainer_pb
from botmaker.container.v1 import container_observer_pb2 as pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager.backend import Feature
from container_manager.bot_directories import RootDirectory
from container_manager.errors import StartFailedError
from container_manager.maintenance import readiness
from container_manager.model import ContainerState
from container_manager_client import connect, error_info
from tests.rpc.conftest import ServeOn
from tests.support.calls import Calls, fails_with
from tests.support.memory_backend import MemoryBackend, MemoryBots
from tests.support.provisioning_calls import put_secrets

SENTENCES = {feature: f"this backend has no {feature.value}" for feature in Feature}
BOT = str(uuid.uuid4())
MAINTAINED = {"bot_id": BOT, "request_id": "one"}
OBSERVED, PROVISIONED, KEPT = ContainerObserverStub, BotProvisionerStub, ContainerMaintainerStub
REFUSED: dict[str, tuple[Any, Any, Feature]] = {
    "StreamLogs": (OBSERVED, pb.StreamLogsRequest(bot_id=BOT), Feature.LOGS),
    "WatchStats": (OBSERVED, pb.WatchStatsRequest(), Feature.STATS),
    "GetStats": (OBSERVED, pb.GetStatsRequest(), Feature.STATS),
    "PutFiles": (PROVISIONED, provisioner_pb.PutFilesRequest(bot_id=BOT, files={"a": b""}), Feature.FILES),
    "RunAction": (KEPT, maintainer_pb.RunActionRequest(bot_id=BOT, action="doctor"), Feature.ACTIONS),
    "RunAction secrets-reload": (
        KEPT,
        maintainer_pb.RunActionRequest(bot_id=BOT, action="secrets-reload"),
        Feature.SECRETS_RELOAD,
    ),
    "CreateBackup": (KEPT, maintainer_pb.CreateBackupRequest(stop_and_restart=True, **MAINTAINED), Feature.BACKUPS),
    "CreateBackup of a running bot": (KEPT, maintainer_pb.CreateBackupRequest(**MAINTAINED), Feature.PAUSE),
    "RestoreBackup": (KEPT, maintainer_pb.RestoreBackupRequest(backup_id="b-1", **MAINTAINED), Feature.BACKUPS),
    "UpgradeContainer": (KEPT, maintainer_pb.UpgradeContainerRequest(image="bot:2", **MAINTAINED), Feature.BACKUPS),
}


def limited(memory: MemoryBackend, *features: Feature) -> None:
    memory.limitations = {feature: SENTENCES[feature] for feature in features}


@pytest.mark.parametrize("call", REFUSED)
def test_what_the_backend_cannot_do_is_refused_with_the_reason(
    grpc_channel: Any, memory: MemoryBackend, rpc_secrets: RootDirectory, call: str
) -> None:
    """The backend is not asked, and nothing is recorded of an operation."""
    stub, request, feature = REFUSED[call]
    limited(memory, feature)
    seen = len(memory.calls)
    method = getattr(stub(grpc_channel), call.partition(" ")[0])
    with pytest.raises(grpc.RpcError) as caught:
        next(iter(method(request, timeout=30)))
    problem = error_info(caught.value)
    assert (grpc.StatusCode.UNIMPLEMENTED, "NOT_SUPPORTED_BY_BACKEND") == (caught.value.code(), problem.reason)
    assert (SENTENCES[feature], {"backend": "memory"}) == (problem.message, dict(problem.metadata))
    assert [] == [name for name, bot_id in memory.calls[seen:] if bot_id == BOT]
    assert [] == list((rpc_secrets.path / ".operations").glob("*.json"))


def test_an_upgrade_without_a_copy_is_served_where_states_cannot_be_copied(
    grpc_channel: Any, calls: Calls, memory: MemoryBackend, bots: MemoryBots
) -> None:
    limited(memory, Feature.BACKUPS)
    bot_id = bots.new()
    calls.create(bot_id, image="bot:1")
    request = maintainer_pb.UpgradeContainerRequest(bot_id=bot_id, request_id="one", image="bot:2", skip_backup=True)
    list(ContainerMaintainerStub(grpc_channel).UpgradeContainer(request, timeout=60))
    status = calls.status(bot_id)
    assert status is not None
    assert "bot:2" == status.image


@pytest.mark.parametrize("state", [ContainerState.RUNNING, ContainerState.RESTARTING])
def test_secrets_that_take_effect_at_a_start_are_reloaded_by_a_restart_that_the_caller_allows(
    provisioner: BotProvisionerStub, memory: MemoryBackend, bots: MemoryBots, state: ContainerState
) -> None:
    """Also of a bot that crashes again and again: it would go on with the secrets from before."""
    limited(memory, Feature.SECRETS_RELOAD)
    bot_id = bots.bare()
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"first")
    memory.add(bot_id, state)
    reload = provisioner_pb.ReloadSecretsRequest
    with fails_with("FAILED_PRECONDITION", "SECRETS_RELOAD_FAILED") as caught:
        provisioner.ReloadSecrets(reload(bot_id=bot_id, mode=reload.MODE_RELOAD), timeout=30)
    assert SENTENCES[Feature.SECRETS_RELOAD] == caught[0].message
    assert [] == memory.seen("restart_container")
    answer = provisioner.ReloadSecrets(reload(bot_id=bot_id, mode=reload.MODE_RELOAD_OR_RESTART), timeout=30)
    assert provisioner_pb.ReloadSecretsResponse.OUTCOME_RESTARTED == answer.outcome
    assert [("restart_container", bot_id)] == memory.seen("restart_container")
    assert [] == memory.actions.runs


def test_a_stopped_bot_has_nothing_to_reload_also_where_secrets_take_effect_at_a_start(
    provisioner: BotProvisionerStub, memory: MemoryBackend, bots: MemoryBots
) -> None:
    limited(memory, Feature.SECRETS_RELOAD)
    bot_id = bots.new()
    memory.add(bot_id, ContainerState.EXITED)
    for mode in (1, 2):
        answer = provisioner.ReloadSecrets(provisioner_pb.ReloadSecretsRequest(bot_id=bot_id, mode=mode), timeout=30)
        assert provisioner_pb.ReloadSecretsResponse.OUTCOME_NOT_RUNNING == answer.outcome


def test_a_reload_that_the_backend_refuses_is_not_among_the_actions(
    serve_on: ServeOn, memory: MemoryBackend, unix: str
) -> None:
    limited(memory, Feature.SECRETS_RELOAD)
    with serve_on(unix) as (target,), connect(target) as channel:
        actions = ContainerObserverStub(channel).GetServerInfo(pb.GetServerInfoRequest()).actions
    assert ["ready", "pairing-list", "pairing-approve", "doctor"] == [action.name for action in actions]


def test_a_backend_without_actions_and_logs_is_not_asked_for_them_by_an_upgrade(
    serve_on: ServeOn, memory: MemoryBackend, bots: MemoryBots, unix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No action is offered, readiness is how long the bot runs, and a failure has no last log lines."""
    limited(memory, Feature.ACTIONS, Feature.LOGS)
    monkeypatch.setattr(readiness, "RUNNING_SECONDS", 0.2)
    monkeypatch.setattr(memory, "log", None)
    bot_id = bots.new()
    memory.add(bot_id, image="bot:1", action_set="openclaw")
    with serve_on(unix) as (target,), connect(target) as channel:
        assert [] == list(ContainerObserverStub(channel).GetServerInfo(pb.GetServerInfoRequest()).actions)
        maintainer = ContainerMaintainerStub(channel)
        request = maintainer_pb.UpgradeContainerRequest(bot_id=bot_id, request_id="one", image="bot:2")
        list(maintainer.UpgradeContainer(request, timeout=60))
        memory.script("start_container", StartFailedError("no start"), None)
        request = maintainer_pb.UpgradeContainerRequest(bot_id=bot_id, request_id="two", image="bot:3")
        with fails_with("FAILED_PRECONDITION", "UPGRADE_ROLLED_BACK") as caught:
            list(maintainer.UpgradeContainer(request, timeout=60))
    assert "last log lines" not in caught[0].message
    assert [] == memory.actions.runs
