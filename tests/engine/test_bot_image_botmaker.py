"""The real gateway as BotMaker runs it: its keys in a proxy, its state at another path, its page on any port."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import secrets
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.models.containers import Container
from google.protobuf.duration_pb2 import Duration

from botmaker.container.v1 import bot_provisioner_pb2 as pb
from botmaker.container.v1 import container_manager_pb2 as manager_pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig, ServerConfig
from container_manager_client import connect
from tests.docs.documents import blocks
from tests.support import gateway, keyring_proxy
from tests.support.bots import NODE_UID, Bots
from tests.support.calls import Calls
from tests.support.keyring_proxy import KeyringProxy, running_proxy
from tests.support.provisioning_calls import put_secrets
from tests.support.serving import running_server
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to the bots' user"),
]

README = "images/openclaw/README.md"
STATE = "/app/botdata"
MODEL = "~some/model[1m]@latest"
# What a bot's owner adds to the rendered configuration: here, an API that the test can speak to.
OWNERS = {"gateway": {"http": {"endpoints": {"chatCompletions": {"enabled": True}}}}}
HEALTHY = manager_pb.HEALTH_STATUS_HEALTHY


@dataclass(frozen=True)
class Service:
    """A service that mounts bots' state where BotMaker does, and a proxy for their keys."""

    bots: Bots
    state_root: Path
    calls: Calls
    provisioner: BotProvisionerStub
    proxy: KeyringProxy

    def started(self, provider_key: str, files: dict[str, object], **config: Any) -> Bot:
        """A bot that is provisioned, created and started, and whose gateway is live."""
        bot_id, token = self.bots.bare(), secrets.token_hex(24)
        keys = {provider_key: self.proxy.token.encode(), "GATEWAY_TOKEN": token.encode()}
        put_secrets(self.provisioner, bot_id, **keys)
        contents = {name: json.dumps(content).encode() for name, content in files.items()}
        self.provisioner.PutFiles(pb.PutFilesRequest(bot_id=bot_id, files=contents), timeout=60)
        command = config.pop("command", ())
        ports = [manager_pb.PortBinding(container_port=gateway.GATEWAY_PORT)]
        hosts = {keyring_proxy.HOST: "host-gateway"}
        self.calls.run(bot_id, *command, ports=ports, extra_hosts=hosts, **config)
        bot = Bot(self, bot_id, token)
        try:
            wait_until(lambda: gateway.is_live(bot.port), "the gateway is live", gateway.GATEWAY_START_SECONDS)
        except AssertionError as failure:
            failure.add_note(self.bots.describe())
            raise
        return bot


@dataclass(frozen=True)
class Bot:
    """A bot of this service."""

    service: Service
    bot_id: str
    token: str

    def status(self) -> manager_pb.ContainerStatus:
        found = self.service.calls.status(self.bot_id)
        assert found is not None
        return found

    @property
    def port(self) -> int:
        return self.status().ports[0].host_port

    @property
    def container(self) -> Container:
        return self.service.bots.engine.containers.get(f"botmaker-{self.bot_id}")

    @property
    def state(self) -> Path:
        return self.service.state_root / self.bot_id

    def answer(self) -> str:
        """What its model answers."""
        answer = gateway.complete(self.port, self.token, "ping")
        assert 200 == answer.status, answer.body
        content: str = json.loads(answer.body)["choices"][0]["message"]["content"]
        return content


@pytest.fixture(scope="module")
def service(  # noqa: PLR0917 - fixtures
    engine: docker.DockerClient,
    service_config: BackendConfig,
    openclaw_image: str,
    session_dir: Path,
    secrets_root: Path,
    all_bot_ids: list[str],
) -> Iterator[Service]:
    state = session_dir / "botmaker-state"
    state.mkdir(mode=0o755)
    root = RootDirectory(state, state)
    config = replace(service_config, default_image=openclaw_image, state_root=root, state_mount=STATE)
    listen = (f"unix://{session_dir}/botmaker/s.sock",)
    bots = Bots(engine, secrets_root, all_bot_ids)
    with (
        running_proxy(secrets.token_hex(24)) as proxy,
        running_server(ServerConfig(service=config, listen=listen)) as addresses,
        connect(addresses[0]) as channel,
    ):
        calls = Calls(ContainerManagerStub(channel))
        try:
            yield Service(bots, state, calls, BotProvisionerStub(channel), proxy)
        finally:
            bots.remove_all()


@pytest.fixture(scope="module")
def bot(service: Service) -> Bot:
    """A bot of our image."""
    return service.started(
        "GROK_API_KEY",
        {"openclaw.user.json": OWNERS},
        ai_provider="grok",
        ai_model=MODEL,
        channel_type="whatsapp",
        environment={"AI_BASE_URL": service.proxy.url("grok"), "OPENCLAW_STATE_DIR": STATE},
        health_check=manager_pb.HealthCheck(
            command=["node", "/opt/entrypoint/ready.mjs"],
            interval=Duration(seconds=3),
            start_period=Duration(seconds=240),
        ),
    )


def test_its_requests_go_through_the_proxy_with_its_token_in_place_of_a_key(bot: Bot) -> None:
    assert keyring_proxy.ANSWER == bot.answer()
    proxy = bot.service.proxy
    requests = [(each.provider, each.path, each.key, each.body["model"]) for each in proxy.forwarded]
    assert ("grok", "/responses", keyring_proxy.key_of("grok"), MODEL) in requests
    assert [] == proxy.refused


def test_its_control_page_works_on_the_port_that_the_engine_chose_and_on_no_other_site(bot: Bot) -> None:
    def refusal(origin: str) -> str:
        return asyncio.run(gateway.refusal_of_page(bot.port, bot.token, origin=origin))

    assert gateway.GATEWAY_PORT != bot.port
    assert "CONTROL_UI_DEVICE_IDENTITY_REQUIRED" == refusal(f"http://127.0.0.1:{bot.port}")
    for origin in ("http://evil.example", f"http://127.0.0.1:{bot.port + 1}", f"http://evil.example:{bot.port}"):
        assert "CONTROL_UI_ORIGIN_NOT_ALLOWED" == refusal(origin)


def test_its_health_check_says_when_it_is_ready(bot: Bot) -> None:
    wait_until(lambda: bot.status().health == HEALTHY, "the gateway is ready", gateway.GATEWAY_START_SECONDS)
    output = bot.container.exec_run(["node", "/opt/entrypoint/ready.mjs", "live"]).output.decode()
    assert json.loads(output)["ok"] is True


def test_its_channel_is_started(bot: Bot) -> None:
    log = bot.container.logs()
    assert re.search(rb"http server listening \(\d+ plugins: [^)]*\bwhatsapp\b", log)


def test_its_state_is_where_the_service_mounts_it(bot: Bot) -> None:
    config = bot.state / "openclaw.json"
    assert (NODE_UID, 0o600) == (config.stat().st_uid, config.stat().st_mode & 0o777)
    assert (bot.state / "state" / "openclaw.sqlite").exists()


def test_it_reloads_its_secrets_there(bot: Bot) -> None:
    rotated = secrets.token_hex(24)
    put_secrets(bot.service.provisioner, bot.bot_id, GATEWAY_TOKEN=rotated.encode())
    response = bot.service.provisioner.ReloadSecrets(pb.ReloadSecretsRequest(bot_id=bot.bot_id), timeout=240)
    assert ["GATEWAY_TOKEN"] == list(response.confirmed)
    assert (401, 200) == tuple(gateway.use_tool(bot.port, token).status for token in (bot.token, rotated))


@pytest.fixture(scope="module")
def official_layout(engine: docker.DockerClient, openclaw_image: str, test_labels: dict[str, str]) -> Iterator[str]:
    """An image with the layout of the official one, which cannot be pulled everywhere, and the same OpenClaw."""
    dockerfile = f"""
    FROM {openclaw_image}
    USER root
    RUN mkdir /app && ln -s /opt/openclaw/node_modules/openclaw/* /app/ && rm -r /opt/entrypoint /home/node/.openclaw
    USER node
    WORKDIR /app
    ENTRYPOINT []
    CMD ["node", "openclaw.mjs", "gateway"]
    """
    tag = f"botmaker-test/official:{uuid.uuid4().hex[:12]}"
    messages = engine.api.build(
        fileobj=io.BytesIO(dockerfile.encode()), tag=tag, rm=True, forcerm=True, decode=True, labels=test_labels
    )
    assert [] == [message for message in messages if "error" in message]
    yield tag
    engine.images.remove(tag, force=True)


@pytest.mark.slow
def test_the_official_images_layout_runs_as_the_readme_says(service: Service, official_layout: str) -> None:
    (example,) = [block.text for block in blocks(README) if block.language == "json" and "allowedOrigins" in block.text]
    config = json.loads(example.replace(f"{keyring_proxy.HOST}:9101", f"{keyring_proxy.HOST}:{service.proxy.port}"))
    config["gateway"] |= OWNERS["gateway"]
    bot = service.started(
        "ANTHROPIC_API_KEY",
        {"openclaw.json": config},
        image=official_layout,
        environment={"OPENCLAW_STATE_DIR": STATE},
        command=("node", "openclaw.mjs", "gateway"),
    )
    assert keyring_proxy.ANSWER == bot.answer()
    assert "/v1/messages" in [each.path for each in service.proxy.forwarded if each.provider == "anthropic"]
    assert (bot.state / "state" / "openclaw.sqlite").exists()
