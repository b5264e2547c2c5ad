"""Bots for tests: ids with secrets, and the removal of all their containers."""

from __future__ import annotations

import shutil
import uuid
from contextlib import suppress
from pathlib import Path

import docker
from docker.errors import NotFound
from docker.models.containers import Container

from tests.support.waiting import wait_until

GATEWAY_TOKEN = "token-of-a-test-0123456789"
NODE_UID = 1000


class Bots:
    """Creates bots and remembers them. Finds containers by label, never by a prefix of the name."""

    def __init__(self, engine: docker.DockerClient, secrets_root: Path, all_ids: list[str] | None = None) -> None:
        self.engine = engine
        self.secrets_root = secrets_root
        self.ids: list[str] = []
        self._all_ids = [] if all_ids is None else all_ids

    def new(self) -> str:
        """A new bot's id; it has a secrets directory, readable for any image's user."""
        return self._new(0o755, 0o644)

    def bare(self) -> str:
        """A new bot's id; it has no secrets directory."""
        bot_id = str(uuid.uuid4())
        self.ids.append(bot_id)
        self._all_ids.append(bot_id)
        return bot_id

    def new_openclaw(self) -> str:
        """A new bot's id; only the image's user can read its secrets, as OpenClaw demands. Needs root."""
        bot_id = self._new(0o700, 0o600)
        directory = self.secrets_root / bot_id
        for path in (directory, *directory.iterdir()):
            shutil.chown(path, NODE_UID, NODE_UID)
        return bot_id

    def _new(self, directory_mode: int, file_mode: int) -> str:
        bot_id = self.bare()
        directory = self.secrets_root / bot_id
        directory.mkdir()
        directory.chmod(directory_mode)
        token = directory / "GATEWAY_TOKEN"
        token.write_text(GATEWAY_TOKEN)
        token.chmod(file_mode)
        return bot_id

    def containers(self) -> list[Container]:
        """Every container of these bots, also those that the service did not create."""
        found = []
        for bot_id in self.ids:
            filters = {"label": f"botmaker.bot-id={bot_id}"}
            found += self.engine.containers.list(all=True, filters=filters, ignore_removed=True)
        return found

    def inspect(self, bot_id: str) -> dict:
        """The engine's inspect document of the bot's container."""
        return self.engine.api.inspect_container(f"botmaker-{bot_id}")

    def wait_for_log(self, bot_id: str, text: bytes) -> None:
        """Wait until the bot's process has written ``text``."""
        container = self.engine.containers.get(f"botmaker-{bot_id}")
        wait_until(lambda: text in container.logs(), f"{bot_id} writes {text!r}")

    def describe(self) -> str:
        """The states and last log lines of all containers, for the report of a failed test."""
        parts = []
        for container in self.containers():
            logs = container.logs(tail=20).decode("utf-8", "replace")
            parts.append(f"{container.name} {container.attrs['State']}\n{logs}")
        return "\n".join(parts)

    def remove_all(self) -> None:
        """Remove the containers and the secrets."""
        for container in self.containers():
            with suppress(NotFound):
                container.remove(force=True, v=True)
        for bot_id in self.ids:
            shutil.rmtree(self.secrets_root / bot_id, ignore_errors=True)
        self.ids.clear()
