"""A bot's container on its node, through the node's own engine and not through the service."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any

from container_manager.backends.swarm.tasks import in_order
from dev import docker_command
from dev.swarm import Node, SwarmBed
from tests.support.swarm_bots import SwarmBots
from tests.support.waiting import wait_until

Json = dict[str, Any]


@dataclass(frozen=True)
class NodeContainer:
    """The container of a bot's present run."""

    node: Node
    id: str

    def inspect(self) -> Json:
        """The engine's own document."""
        (document,) = json.loads(docker_command.run(self.node.docker_url, "inspect", self.id))
        return document

    def image_digests(self) -> list[str]:
        """The digests under which the node has the container's image."""
        (document,) = json.loads(docker_command.run(self.node.docker_url, "inspect", self.inspect()["Image"]))
        return [name.partition("@")[2] for name in document["RepoDigests"]]

    def run(self, *command: str, user: str = "") -> tuple[int, str]:
        """Exit code and output of a command inside the container; by default as the user that its image has."""
        words = ["docker", "--host", self.node.docker_url, "exec", f"--user={user}", self.id, *command]
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        return done.returncode, done.stdout

    def log(self) -> str:
        """What the process has written so far."""
        words = ["docker", "--host", self.node.docker_url, "logs", self.id]
        return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True).stdout

    def wait_for_log(self, text: str) -> None:
        """Wait until the process has written this."""
        wait_until(lambda: text in self.log(), f"the bot writes {text!r}")


def container_of(bed: SwarmBed, bots: SwarmBots, bot_id: str) -> NodeContainer:
    """The container that runs for this bot; after a node was away, the swarm may yet have to start it."""
    nodes = {node["ID"]: node["Description"]["Hostname"] for node in bots.api.nodes()}

    def running() -> Json | None:
        tasks = in_order(bots.api.tasks(filters={"service": f"botmaker-{bot_id}"}))
        return next((task for task in reversed(tasks) if task["Status"]["State"] == "running"), None)

    task = wait_until(running, f"{bot_id} runs")
    node = next(node for node in bed.nodes if node.name == nodes[task["NodeID"]])
    return NodeContainer(node, task["Status"]["ContainerStatus"]["ContainerID"])
