"""A swarm of two nodes for the tests of states on single nodes; each node's engine keeps its volumes in a directory."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from container_manager.backends.bot_container import LABEL_BOT_ID
from container_manager.backends.swarm.pinned_files import PinnedFiles
from container_manager.backends.swarm.pinned_states import PinnedStates
from container_manager.backends.swarm.state_nodes import StateNodes
from container_manager.backends.swarm.state_volumes import StateVolumes
from container_manager.bot_directories import BotUser
from container_manager.deadline import Deadline
from container_manager.engine.swarm import SwarmClient
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.operation import carry_out
from container_manager.provisioning.host_states import MAINTENANCE_DIRECTORY, HostStates
from container_manager.provisioning.staging import remove_leftovers
from tests.unit.provisioned import BOT, USER, contents, root_at

Json = dict[str, Any]
VOLUME = f"botmaker-{BOT}"


class Swarm:
    """A manager: it keeps nodes and services, with the rules of updates."""

    def __init__(self) -> None:
        self.rows = {name: self._row(name) for name in ("a", "b")}
        self.services: list[Json] = []

    @staticmethod
    def _row(name: str) -> Json:
        spec = {"Role": "worker", "Availability": "active", "Labels": {}}
        status = {"State": "ready"}
        description = {"Hostname": f"machine-{name}"}
        return {"ID": name, "Version": {"Index": 5}, "Spec": spec, "Status": status, "Description": description}

    def list_nodes(self, _deadline: Deadline) -> list[Json]:
        return list(json.loads(json.dumps(list(self.rows.values()))))

    def update_node(self, document: Json, spec: Json) -> bool:
        self.rows[document["ID"]]["Spec"] = spec
        return True

    def list_services(self, _deadline: Deadline, **_: Any) -> list[Json]:
        return self.services

    def inspect_service(self, name: str, _deadline: Deadline) -> Json | None:
        return next((each for each in self.services if each["Spec"]["Name"] == name), None)

    def pin(self, node_id: str | None) -> None:
        """Give the bot a service on this node; ``None``: on any."""
        constraints = [] if node_id is None else [f"node.id=={node_id}"]
        labels = {"botmaker.managed": "true", LABEL_BOT_ID: BOT}
        template = {"Placement": {"Constraints": constraints}}
        self.services = [{"ID": "s", "Spec": {"Name": VOLUME, "Labels": labels, "TaskTemplate": template}}]


class NodeEngine:
    """The engine of a node, in place of its client. All that it has is on the disk, so that it outlives a process."""

    def __init__(self, path: Path, node_id: str) -> None:
        self.volumes, self._containers = path / "volumes", path / "containers"
        for directory in (self.volumes, self._containers):
            directory.mkdir(parents=True)
        self.node_id = node_id
        self.has_image = self.remaps_users = False
        self.before_call: Callable[[str], None] = lambda _: None
        self.cut: Callable[[bytes], bytes] = lambda data: data

    def __call__(self, url: str, **_: Any) -> NodeEngine:
        assert url.startswith("tcp://")
        return self

    def close(self) -> None:
        """Nothing is open."""

    def info(self, _: Deadline) -> Json:
        return {"Swarm": {"NodeID": self.node_id}}

    def user_namespace(self, _: Deadline) -> BotUser | None:
        return BotUser(100_000, 100_000) if self.remaps_users else None

    def has_volume(self, name: str) -> bool:
        self.before_call("inspect_volume")
        return (self.volumes / name).exists()

    def remove_volume(self, name: str) -> bool:
        self.before_call("remove_volume")
        if self.containers_with(name):
            return False
        if (self.volumes / name).exists():
            remove_tree(self.volumes / name)
        return True

    def containers_with(self, volume: str) -> list[Json]:
        return [row for row in map(self._row, sorted(self._containers.iterdir())) if row["Volume"] == volume]

    def create_container(self, name: str, body: Json) -> str:
        self.before_call("create_container")
        (mount,) = body["HostConfig"]["Mounts"]
        if body["Image"] == "botmaker/empty:1" and not self.has_image:
            raise EngineRejectedError(404, "No such image")
        if name in self.names():
            raise EngineRejectedError(409, "the name is in use")
        self.hold(name, mount["Source"], "created", body["Labels"])
        (self.volumes / mount["Source"]).mkdir(exist_ok=True)
        return name

    def import_empty_image(self, repository: str, tag: str) -> None:
        assert ("botmaker/empty", "1") == (repository, tag)
        self.has_image = True

    def remove_container(self, container_id: str, *, force: bool = True) -> None:
        self.before_call("remove_container")
        if not force and self._row(self._containers / container_id)["State"] == "running":
            raise EngineRejectedError(409, "it runs")
        (self._containers / container_id).unlink()

    @contextmanager
    def archive(self, container_id: str, path: str) -> Iterator[io.BytesIO]:
        self.before_call("archive")
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as tar:
            tar.add(self.volumes / self._row(self._containers / container_id)["Volume"], path.strip("/"))
        yield io.BytesIO(self.cut(data.getvalue()))

    def put_archive(self, container_id: str, path: str, body: Iterable[bytes]) -> None:
        assert "/" == path
        volume = self.volumes / self._row(self._containers / container_id)["Volume"]
        with tarfile.open(fileobj=io.BytesIO(b"".join(body))) as tar:
            for member in tar:
                self.before_call("put_entry")
                member.name = member.name.removeprefix("state").strip("/")
                if member.name:
                    tar.extract(member, volume, numeric_owner=True, filter="fully_trusted")
                else:
                    tar.chown(member, volume, numeric_owner=True)
                    tar.chmod(member, volume)

    def hold(self, name: str, volume: str, state: str, labels: Json) -> None:
        """Let a container have a volume."""
        row = {"Id": name, "Volume": volume, "State": state, "Labels": labels}
        part = self._containers.parent / "part"
        part.write_text(json.dumps(row))
        part.rename(self._containers / name)

    def names(self) -> list[str]:
        """The containers."""
        return sorted(path.name for path in self._containers.iterdir())

    @staticmethod
    def _row(path: Path) -> Json:
        if not path.exists():
            raise EngineRejectedError(404, "No such container")
        row: Json = json.loads(path.read_text())
        return row


class PinnedWorld:
    """The bot's state is on node b, whose engine is named, and not on node a."""

    def __init__(self, path: Path) -> None:
        self.root = root_at(path / "root")
        self.swarm = Swarm()
        self.node = NodeEngine(path / "b", "b")
        self.copies = HostStates(self.root, USER)
        self.of_engines({"machine-b": "tcp://b:1"})

    def of_engines(self, endpoints: dict[str, str]) -> None:
        """A service that is started with these engines of nodes."""
        engine = cast("SwarmClient", self.swarm)
        volumes = StateVolumes(endpoints, seconds=5)
        self.nodes = StateNodes(engine)
        self.states = PinnedStates(engine, self.nodes, self.copies, volumes)
        self.files = PinnedFiles(self.nodes, volumes, self.copies)

    def put(self, content: dict[str, bytes]) -> None:
        """Give the bot this state on node b."""
        carry_out(self.nodes.keep(BOT, "b"))
        remove_tree(self.volume)
        for path, data in content.items():
            (self.volume / path).parent.mkdir(parents=True, exist_ok=True)
            (self.volume / path).write_bytes(data)

    @property
    def volume(self) -> Path:
        return self.node.volumes / VOLUME

    def state(self) -> dict[str, bytes]:
        """What is in the volume."""
        return contents(self.volume)

    def copy(self, name: str) -> dict[str, bytes] | None:
        """What is in a copy; ``None``: there is none."""
        path = self.root.path / MAINTENANCE_DIRECTORY / BOT / name
        return contents(path) if path.exists() else None

    def new(self, name: str, content: dict[str, bytes]) -> None:
        """A copy beside the state."""
        with self.states.new_aside(BOT, name) as directory:
            for path, data in content.items():
                place = Path(f"/proc/self/fd/{directory}") / path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(data)


def remove_tree(path: Path) -> None:
    """Remove a directory, if it is there, in steps."""
    if path.exists():
        for inner in sorted(path.rglob("*"), reverse=True):
            if inner.is_dir() and not inner.is_symlink():
                inner.rmdir()
            else:
                inner.unlink()
        path.rmdir()
    remove_leftovers(path)
