"""Bots on a swarm for tests: ids with secrets, and the removal of all that the swarm has of them."""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import Any

import docker
from docker.errors import APIError, NotFound

from container_manager.backends.swarm.secrets import SwarmSecrets
from container_manager.backends.swarm.tasks import is_being_forgotten
from container_manager.bot_directories import BotUser
from container_manager.engine.swarm import SwarmClient
from tests.support.bots import GATEWAY_TOKEN
from tests.support.waiting import wait_until

Json = dict[str, Any]


class SwarmBots:
    """Creates bots and remembers them. Looks at the manager itself, and not through the service."""

    def __init__(self, manager_url: str) -> None:
        self.api = docker.APIClient(base_url=manager_url, version="auto", timeout=30)
        self.ids: list[str] = []
        self._engine = SwarmClient(manager_url, timeout_seconds=30)
        self._secrets = SwarmSecrets(self._engine, BotUser(0, 0))

    def new(self) -> str:
        """A new bot's id; it has a secret."""
        bot_id = self.bare()
        self._secrets.put_secrets(bot_id, {"GATEWAY_TOKEN": GATEWAY_TOKEN.encode()})
        return bot_id

    def bare(self) -> str:
        """A new bot's id; it has no secrets."""
        self.ids.append(str(uuid.uuid4()))
        return self.ids[-1]

    def containers(self) -> list[Json]:
        """Every service and every task of these bots."""
        return [*self.services(), *self.tasks()]

    def services(self) -> list[Json]:
        """The services of these bots."""
        return [each for each in self.api.services() if _bot(each["Spec"]) in self.ids]

    def tasks(self) -> list[Json]:
        """The tasks of these bots, also of services that are gone."""
        return [each for each in self.api.tasks() if _bot(each["Spec"]["ContainerSpec"]) in self.ids]

    def secrets(self) -> list[Json]:
        """The swarm's secrets of these bots."""
        return [each for each in self.api.secrets() if _bot(each["Spec"]) in self.ids]

    def touch(self, bot_id: str) -> None:
        """Change the bot's service without an effect on its containers."""
        service = self.api.inspect_service(f"botmaker-{bot_id}")
        labels = {**service["Spec"]["Labels"], "touched": "by hand"}
        assert self._engine.update_service(service, {**service["Spec"], "Labels": labels})

    def drain(self, host_name: str) -> None:
        """Let no bot run on this node."""
        self._set_availability(host_name, "drain")

    def activate_nodes(self) -> None:
        """Let bots run on every node."""
        for node in self.api.nodes():
            if node["Spec"]["Availability"] != "active":
                self._set_availability(node["Description"]["Hostname"], "active")

    def _set_availability(self, host_name: str, availability: str) -> None:
        node = next(each for each in self.api.nodes() if each["Description"]["Hostname"] == host_name)
        self.api.update_node(node["ID"], node["Version"]["Index"], {**node["Spec"], "Availability": availability})

    def remove_all(self) -> None:
        """Remove the services, wait for their tasks, and remove the secrets."""
        # As the service does: a leader may crash otherwise.
        wait_until(lambda: not any(map(is_being_forgotten, self.tasks())), "what has ended is forgotten")
        for service in self.services():
            with suppress(NotFound):
                self.api.remove_service(service["ID"])
        wait_until(lambda: not self.containers(), "the bots are gone")
        for secret in self.secrets():
            with suppress(APIError):
                self.api.remove_secret(secret["ID"])
        self.ids.clear()

    def close(self) -> None:
        """Close all connections."""
        self._secrets.close()
        self._engine.close()
        self.api.close()


def _bot(spec: Json) -> str:
    return (spec.get("Labels") or {}).get("botmaker.bot-id", "")
