"""The real OpenClaw: it is ready when it says so, and its built-in actions do what they promise."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from botmaker.container.v1 import container_maintainer_pb2 as pb
from botmaker.container.v1 import container_manager_pb2 as manager_pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig, ServerConfig
from container_manager_client import connect
from tests.support import botctl_process, gateway
from tests.support.bots import NODE_UID, Bots
from tests.support.calls import FOREVER, Calls, fails_with
from tests.support.provisioning_calls import put_secrets
from tests.support.serving import running_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to the bots' user"),
]

# As a channel of OpenClaw does when a stranger writes to the bot: through the interface for plugins.
ASK_FOR_PAIRING = """
const sdk = "/opt/openclaw/node_modules/openclaw/dist/plugin-sdk";
const { upsertChannelPairingRequest } = await import(`${sdk}/conversation-runtime.js`);
const request = { channel: "telegram", id: "4711", accountId: "default" };
console.log(JSON.stringify(await upsertChannelPairingRequest(request)));
"""


@pytest.fixture
def target(service_config: BackendConfig, openclaw_image: str, session_dir: Path) -> Iterator[str]:
    """The address of a service whose default image is the bot image."""
    state = session_dir / "actions-state"
    state.mkdir(mode=0o755, exist_ok=True)
    service = replace(service_config, default_image=openclaw_image, state_root=RootDirectory(state, state))
    config = ServerConfig(service=service, listen=(f"unix://{session_dir}/actions/s.sock",))
    with running_server(config) as addresses:
        yield addresses[0]


class Acting:
    """Runs actions in one bot."""

    def __init__(self, target: str, bot_id: str) -> None:
        self._target = target
        self._bot_id = bot_id

    def __call__(self, name: str, *arguments: str) -> tuple[int, str, str]:
        """The exit code and both outputs."""
        request = pb.RunActionRequest(bot_id=self._bot_id, action=name, arguments=arguments)
        with connect(self._target) as channel:
            events = list(ContainerMaintainerStub(channel).RunAction(request, timeout=180))
        stdout, stderr = (b"".join(getattr(event, name) for event in events).decode() for name in ("stdout", "stderr"))
        return events[-1].end.exit_code, stdout, stderr


def test_the_built_in_actions_do_what_they_promise(target: str, bots: Bots) -> None:
    """They need no gateway, whose start takes long."""
    bot_id = bots.bare()
    with connect(target) as channel:
        calls = Calls(ContainerManagerStub(channel))
        put_secrets(BotProvisionerStub(channel), bot_id, GATEWAY_TOKEN=b"t" * 48)
        calls.run(bot_id, *FOREVER, channel_type="telegram")
        act = Acting(target, bot_id)
        code, stdout, stderr = act("pairing-list")
        assert (0, {"channel": "telegram", "requests": []}) == (code, json.loads(stdout)), stderr
        code, stdout, stderr = act("pairing-approve", "ABCD2345")
        assert 1 == code
        assert 'No pending pairing request found for code "ABCD2345"' in stdout + stderr
        code, stdout, stderr = act("doctor")
        assert code in (0, 1)
        assert json.loads(stdout), stderr
        code, stdout, _ = act("ready")
        assert (1, "the gateway does not answer: ECONNREFUSED\n") == (code, stdout)
        with fails_with("PERMISSION_DENIED", "ACTION_NOT_ALLOWED"):
            act("pairing-approve", "--notify")
        calls.remove(bot_id, grace=0)


def test_a_person_who_waits_for_it_is_approved(target: str, bots: Bots, session_dir: Path) -> None:
    bot_id = bots.bare()
    with connect(target) as channel:
        calls = Calls(ContainerManagerStub(channel))
        put_secrets(BotProvisionerStub(channel), bot_id, GATEWAY_TOKEN=b"t" * 48)
        container_id = calls.run(bot_id, *FOREVER, channel_type="telegram")
        container = bots.engine.containers.get(container_id)
        asked = container.exec_run(["node", "--input-type=module", "--eval", ASK_FOR_PAIRING], stderr=False)
        assert 0 == asked.exit_code
        pairing_code = json.loads(asked.output)["code"]

        act = Acting(target, bot_id)
        _, stdout, _ = act("pairing-list")
        assert [("4711", pairing_code)] == [(each["id"], each["code"]) for each in json.loads(stdout)["requests"]]
        code, stdout, stderr = act("pairing-approve", pairing_code)
        assert 0 == code, stdout + stderr
        _, stdout, _ = act("pairing-list")
        assert [] == json.loads(stdout)["requests"]
        # Actions run as the bot's user.
        assert {NODE_UID} == {path.stat().st_uid for path in (session_dir / "actions-state" / bot_id).rglob("*")}
        calls.remove(bot_id, grace=0)


def test_a_bot_is_ready_when_its_gateway_is(target: str, bots: Bots) -> None:
    bot_id, token = bots.bare(), secrets.token_hex(24)
    with connect(target) as channel:
        calls = Calls(ContainerManagerStub(channel))
        put_secrets(BotProvisionerStub(channel), bot_id, GATEWAY_TOKEN=token.encode(), OPENAI_API_KEY=b"sk-none")
        port = manager_pb.PortBinding(container_port=gateway.GATEWAY_PORT)
        calls.create(bot_id, ai_provider="openai", ai_model="gpt-5.4", ports=[port])
        command = botctl_process.command("start", "--wait", "--wait-timeout", "500s", bot_id)
        environment = botctl_process.environment(target)
        started = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
        assert (0, f"{bot_id}  ready\n", "") == (started.returncode, started.stdout, started.stderr)
        status = calls.status(bot_id)
        assert status is not None
        assert gateway.is_live(status.ports[0].host_port)
        act = Acting(target, bot_id)
        code, stdout, _ = act("ready")
        assert (0, True) == (code, json.loads(stdout)["ready"])
        code, stdout, _ = act("secrets-reload")
        assert (0, {"confirmed": ["GATEWAY_TOKEN"]}) == (code, json.loads(stdout))
        calls.remove(bot_id, grace=0)
