"""Containers beside the service's that it must never touch, and the proof that it has not."""

from __future__ import annotations

from typing import Any

import docker

from tests.support.calls import FOREVER

_KEPT = ("Id", "Name", "Created", "Path", "Args", "Image", "Config", "HostConfig", "Mounts")


class ForeignContainers:
    """Without labels, running and never started; with forged labels under another name; and under a bot's own name."""

    def __init__(self, engine: docker.DockerClient, image: str, bot_id: str, named_bot_id: str) -> None:
        """``bot_id``: whose labels are forged; ``named_bot_id``: whose container's name is held."""
        self._engine = engine
        forged = {"botmaker.managed": "true", "botmaker.bot-id": bot_id}
        self._ids = [
            self._make("nobodys", image, {}, start=True),
            self._make("nobodys-unstarted", image, {}, start=False),
            self._make("forged", image, forged, start=True),
            self._make("forged-unstarted", image, forged, start=False),
            self._make(f"botmaker-{named_bot_id}", image, {}, start=False),
        ]
        self.forged_ids = set(self._ids[2:4])
        self._before = {id_: self._inspect(id_) for id_ in self._ids}

    def touched(self, *, engine_was_down: bool) -> list[str]:
        """What differs now. An engine that was down has changed by itself what had run."""
        told = []
        for id_, before in self._before.items():
            now = self._inspect(id_)
            keys = _KEPT if engine_was_down and before["State"]["Running"] else before
            told += [
                f"{before['Name']}: {key} {before[key]} is {now.get(key)}"
                for key in keys
                if before[key] != now.get(key)
            ]
        return told

    def remove(self) -> None:
        """Remove them."""
        for id_ in self._ids:
            self._engine.api.remove_container(id_, force=True)

    def _make(self, name: str, image: str, labels: dict[str, str], *, start: bool) -> str:
        # With an init process, which lets SIGTERM end it: an engine after a crash waits for that.
        # An engine that was started anew shows empty lists for what nobody gave it.
        host_config = {"NetworkMode": "none", "Init": True, "Dns": [], "DnsOptions": [], "DnsSearch": []}
        body = {"Image": image, "Cmd": list(FOREVER), "Labels": labels, "HostConfig": host_config}
        created = self._engine.api.create_container_from_config(body, name)
        if start:
            self._engine.api.start(created["Id"])
        return created["Id"]

    def _inspect(self, id_: str) -> dict[str, Any]:
        try:
            return self._engine.api.inspect_container(id_)
        except docker.errors.NotFound:
            return {}
