"""The real gateway reads its secrets anew: through the service, without a restart, and confirmed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from botmaker.container.v1 import bot_provisioner_pb2 as pb
from botmaker.container.v1 import container_maintainer_pb2 as maintainer_pb
from botmaker.container.v1 import container_manager_pb2 as manager_pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig, ServerConfig
from container_manager_client import connect
from tests.support import gateway
from tests.support.bots import Bots
from tests.support.calls import Calls, fails_with
from tests.support.provisioning_calls import put_secrets
from tests.support.serving import running_server
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to the bots' user"),
]

OPENAI = {"ai_provider": "openai", "ai_model": "gpt-5.4"}
RELOADED, RESTARTED = pb.ReloadSecretsResponse.OUTCOME_RELOADED, pb.ReloadSecretsResponse.OUTCOME_RESTARTED


@pytest.fixture
def channel(service_config: BackendConfig, openclaw_image: str, session_dir: Path) -> Iterator[grpc.Channel]:
    """A channel to a service whose default image is the bot image."""
    state = session_dir / "reload-state"
    state.mkdir(mode=0o755, exist_ok=True)
    service = replace(service_config, default_image=openclaw_image, state_root=RootDirectory(state, state))
    config = ServerConfig(service=service, listen=(f"unix://{session_dir}/reload/s.sock",))
    with running_server(config) as addresses, connect(addresses[0]) as channel:
        yield channel


def test_conformance_18_a_rotated_token_and_key_reach_the_running_gateway_and_the_token_is_confirmed(
    channel: grpc.Channel, bots: Bots
) -> None:
    calls, provisioner = Calls(ContainerManagerStub(channel)), BotProvisionerStub(channel)
    bot_id = bots.bare()
    tokens = [secrets.token_hex(24) for _ in range(5)]
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=tokens[0].encode(), OPENAI_API_KEY=b"sk-first")
    calls.run(bot_id, ports=[manager_pb.PortBinding(container_port=gateway.GATEWAY_PORT)], **OPENAI)
    started = calls.status(bot_id)
    assert started is not None
    port = started.ports[0].host_port
    ready = maintainer_pb.RunActionRequest(bot_id=bot_id, action="ready")

    def is_ready() -> bool:
        return list(ContainerMaintainerStub(channel).RunAction(ready, timeout=60))[-1].end.exit_code == 0

    wait_until(is_ready, "the gateway says that it is ready", gateway.GATEWAY_START_SECONDS)

    def accepted() -> list[int]:
        return [number for number, token in enumerate(tokens) if gateway.use_tool(port, token).status == 200]

    def reloaded(mode: pb.ReloadSecretsRequest.Mode = pb.ReloadSecretsRequest.MODE_RELOAD) -> tuple[int, list[str]]:
        response = provisioner.ReloadSecrets(pb.ReloadSecretsRequest(bot_id=bot_id, mode=mode), timeout=240)
        return response.outcome, list(response.confirmed)

    assert [0] == accepted()
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=tokens[1].encode(), OPENAI_API_KEY=b"sk-second")
    assert [0] == accepted(), "the gateway has not read it yet"
    assert (RELOADED, ["GATEWAY_TOKEN"]) == reloaded()
    assert [1] == accepted()
    # Twice before the next reload: the gateway still knows the one before both.
    for number in (2, 3):
        put_secrets(provisioner, bot_id, GATEWAY_TOKEN=tokens[number].encode())
    assert (RELOADED, ["GATEWAY_TOKEN"]) == reloaded()
    assert [3] == accepted()
    now = calls.status(bot_id)
    assert now is not None
    assert (started.start_time, 0) == (now.start_time, now.restart_count), "it was not restarted"
    # A key that is gone cannot be resolved.
    provisioner.DeleteSecrets(pb.DeleteSecretsRequest(bot_id=bot_id, names=["OPENAI_API_KEY"]))
    with fails_with("FAILED_PRECONDITION", "SECRETS_RELOAD_FAILED") as caught:
        reloaded()
    assert not any(token in caught[0].message for token in tokens)
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=tokens[4].encode(), OPENAI_API_KEY=b"sk-third")
    assert (RELOADED, ["GATEWAY_TOKEN"]) == reloaded()
    assert [4] == accepted()
    document = bots.inspect(bot_id)
    logs = bots.engine.containers.get(document["Id"]).logs().decode()
    assert not any(token in f"{document}{logs}" for token in tokens)
    calls.remove(bot_id, grace=0)
