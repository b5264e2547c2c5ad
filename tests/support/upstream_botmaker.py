"""Containers as BotMaker makes them: ``src/services/DockerService.ts`` and ``src/server.ts`` of jgarzik/botmaker."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker

# Stands for the image of BotMaker's bots: the programs that BotMaker runs in it. They say that they run, and go on.
_IMAGE = """FROM {base}
RUN mkdir -p /app /usr/local/bin \
&& printf '#!/bin/sh\\ntrap "exit 0" TERM\\necho "gateway in $OPENCLAW_STATE_DIR"\\n' >/bin/node \
&& printf 'while :; do sleep 0.1; done\\n' >>/bin/node \
&& printf '#!/bin/sh\\n' >/bin/curl && chmod 755 /bin/node /bin/curl
WORKDIR /app
USER node
CMD ["node"]
"""


@dataclass(frozen=True)
class BotMakerFiles:
    """The directories of ``DATA_DIR`` and ``SECRETS_DIR``, as the engine sees them."""

    data: Path
    secrets: Path

    def add(self, hostname: str, secrets: dict[str, bytes], files: dict[str, bytes]) -> None:
        """What BotMaker writes for a bot: its secrets, and its workspace with the sandbox in it."""
        secrets_directory, workspace = self.secrets / hostname, self.data / "bots" / hostname
        (workspace / "sandbox").mkdir(parents=True)
        secrets_directory.mkdir(parents=True, mode=0o700)
        for directory, contents in ((secrets_directory, secrets), (workspace, files)):
            for name, content in contents.items():
                (directory / name).write_bytes(content)


def build_image(engine: docker.DockerClient, base: str, tag: str) -> str:
    """An image with the programs that BotMaker's containers run."""
    for message in engine.api.build(
        fileobj=io.BytesIO(_IMAGE.format(base=base).encode()), tag=tag, rm=True, forcerm=True, decode=True
    ):
        assert "error" not in message, message
    return tag


def create_container(
    api: docker.APIClient, hostname: str, bot_id: str, *, image: str, files: BotMakerFiles, port: int, token: str
) -> str:
    """``DockerService.createContainer``, with the values that ``POST /api/bots`` gives it; the container's id."""
    body: dict[str, Any] = {
        "Image": image,
        "Cmd": ["node", "openclaw.mjs", "gateway"],
        "Env": [
            f"BOT_ID={bot_id}",
            f"BOT_NAME={hostname.capitalize()}",
            "AI_PROVIDER=anthropic",
            "AI_MODEL=claude-opus-5",
            f"PORT={port}",
            "OPENCLAW_STATE_DIR=/app/botdata",
            f"OPENCLAW_GATEWAY_TOKEN={token}",
        ],
        "ExposedPorts": {f"{port}/tcp": {}},
        "Labels": {"botmaker.managed": "true", "botmaker.bot-id": bot_id, "botmaker.bot-hostname": hostname},
        "Healthcheck": {
            "Test": ["CMD", "curl", "-sf", f"http://localhost:{port}/"],
            "Interval": 2_000_000_000,
            "Timeout": 3_000_000_000,
            "Retries": 30,
            "StartPeriod": 5_000_000_000,
        },
        "HostConfig": {
            "Binds": [
                f"{files.secrets / hostname}:/run/secrets:ro",
                f"{files.data / 'bots' / hostname}:/app/botdata:rw",
                f"{files.data / 'bots' / hostname / 'sandbox'}:/app/workspace:rw",
            ],
            "PortBindings": {f"{port}/tcp": [{"HostPort": str(port)}]},
            "RestartPolicy": {"Name": "unless-stopped"},
            "NetworkMode": "bridge",
        },
    }
    return str(api.create_container_from_config(body, f"botmaker-{hostname}")["Id"])
