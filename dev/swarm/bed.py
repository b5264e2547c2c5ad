"""Several machines on this one, each with a Docker Engine of its own, joined into one Docker Swarm.

    with SwarmBed(Path("/tmp/x"), nodes=3) as bed:
        subprocess.run(["docker", "--host", bed.nodes[0].docker_url, "node", "ls"])

States: stopped -> start() -> up -> stop() -> stopped. A bed belongs to the process that started it. When that process
dies in whatever way, a watcher clears the bed; should the watcher die too, the next start of any bed does.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dev import docker_command
from dev.debian import MissingEngine, install
from dev.docker_command import DockerError
from dev.remains import wait_for
from dev.swarm.machine import SwarmError
from dev.swarm.node import Node
from dev.swarm.record import Record, clear_abandoned
from dev.swarm.switch import REGISTRY, Switch

CHECKOUT = Path(__file__).resolve().parents[2]
_READY_SECONDS = 60


class SwarmBed:
    """A swarm of `nodes` nodes, the first `managers` of them managers. Needs root, namespaces and control groups.

    `directory` holds the nodes' data and logs, and a link by which another process finds the bed: a SwarmBed made for
    the same directory is the same bed. A stop removes all but the logs; with `keep_images`, the images of the nodes and
    of the registry stay too, and the next bed of that directory has them. `tree` is a Debian release with another
    engine, from `dev.engines.tree`. `settings` are added to each node's daemon.json.

    Beds cannot disturb each other: all that has a name or an address exists within the bed's own namespaces.
    """

    def __init__(
        self,
        directory: Path,
        *,
        nodes: int = 3,
        managers: int = 1,
        tree: Path | None = None,
        settings: Mapping[str, Any] | None = None,
        keep_images: bool = False,
    ) -> None:
        self._directory = directory.absolute()
        self._counts = nodes, managers
        self._tree = str(tree.absolute()) if tree else ""
        self._settings = settings or {}
        self._keep_images = keep_images
        self._watcher: subprocess.Popen[bytes] | None = None
        self._switch: Switch | None = None
        self._nodes: tuple[Node, ...] = ()
        self._adopt()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, managers first. Raises SwarmError while the bed is stopped."""
        self._record()
        return self._nodes

    @property
    def managers(self) -> tuple[Node, ...]:
        """The nodes that joined as managers."""
        return tuple(node for node in self.nodes if node.role == "manager")

    @property
    def workers(self) -> tuple[Node, ...]:
        """The nodes that joined as workers."""
        return tuple(node for node in self.nodes if node.role == "worker")

    @property
    def registry(self) -> str:
        """HOST:PORT of the registry, as all nodes see it; to put before an image's name."""
        return REGISTRY

    @property
    def shared(self) -> Path:
        """A directory that is the same on all nodes and here, as a network file system is."""
        return Path(self._record().runtime) / "shared"

    @property
    def local(self) -> Path:
        """A path that leads to files of its own on each node: `node.local` here."""
        return Path(self._record().runtime) / "local"

    def start(self) -> None:
        """Stopped -> up: boot all nodes and form the swarm; every node is ready then."""
        if os.geteuid() != 0:
            raise MissingEngine("a swarm of machines on this one needs root")
        if Record.of(self._directory) is not None and self._record().owned:
            raise SwarmError(f"the bed of {self._directory} is up already")
        install(("dockerd", "docker", "iptables", "ip"))
        clear_abandoned()
        self._directory.mkdir(parents=True, exist_ok=True)
        nodes, managers = self._counts
        record = Record.make(
            self._directory, nodes=nodes, managers=managers, tree=self._tree, keep_images=self._keep_images
        )
        try:
            self._watcher = _start_watcher(record)
            self._adopt()
            self._boot()
            self._join()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all processes of the bed, in whatever state it is, and remove all that it made except the logs."""
        record = Record.of(self._directory)
        if record is not None:
            record.clear()
        if self._watcher is not None:
            # Last: until here it would go on with the clearing.
            self._watcher.kill()
            self._watcher.wait()
            self._watcher = None

    @property
    def enter_switch(self) -> list[str]:
        """The words to put before a command that shall reach the nodes' addresses and their bots' ports."""
        self._record()
        assert self._switch is not None
        return self._switch.machine.enter("net")

    def restore(self) -> None:
        """Boot, heal and start whatever a test has cut or killed, and wait until every node is ready.

        Raises SwarmError then, if an engine has crashed.
        """
        try:
            _at_once(Node.restore, self.nodes)
        finally:
            self.wait_until_ready()

    def load_image(self, name: str, *, source: str = "") -> str:
        """Put an image on every node and into the registry; return its reference there, `REGISTRY/NAME:TAG`.

        `name` is the tag of an image that the first node has or, with `source`, the engine of that address. Every node
        has it by both names afterwards. All nodes must be up.
        """
        first, *others = self.nodes
        if source:
            _copy(source, first.docker_url, name)
        reference = f"{self.registry}/{name}"
        docker_command.run(first.docker_url, "tag", name, reference)
        docker_command.run(first.docker_url, "push", reference)

        def pull(node: Node) -> None:
            docker_command.run(node.docker_url, "pull", "--quiet", reference)
            docker_command.run(node.docker_url, "tag", reference, name)

        _at_once(pull, others)
        return reference

    def wait_until_ready(self, seconds: float = _READY_SECONDS) -> None:
        """Wait until the first manager sees every node as ready, which it also does for 10 s after a node has died.

        Raises SwarmError when it still does not after that time.
        """
        url, seen = self.managers[0].docker_url, ""

        def ready() -> bool:
            nonlocal seen
            try:
                seen = docker_command.run(
                    url, "node", "ls", "--format", "{{.Hostname}} {{.Status}}", timeout=seconds
                ).decode()
            except DockerError as error:  # without a leader
                seen = str(error)
            return seen.split()[1::2] == ["Ready"] * len(self.nodes)

        if not wait_for(ready, seconds):
            raise SwarmError(f"not every node is ready: {seen}")

    def _record(self) -> Record:
        record = Record.of(self._directory)
        if record is None:
            raise SwarmError(f"the bed of {self._directory} is not up")
        return record

    def _adopt(self) -> None:
        """Take over the nodes of a bed that is up, whoever started it."""
        record = Record.of(self._directory)
        if record is None:
            return
        self._switch = Switch(f"{record.runtime}/switch/", self._directory)
        self._nodes = tuple(Node(number, record, self._switch) for number in range(1, record.nodes + 1))

    def _boot(self) -> None:
        assert self._switch is not None
        self.shared.mkdir(mode=0o755)
        self.local.mkdir(mode=0o755)
        self._switch.start()
        for node in self._nodes:
            node.prepare(self._settings)
        _at_once(Node.boot, self._nodes)
        if self._keep_images:  # but not what the last swarm has left otherwise
            _at_once(lambda node: docker_command.run(node.docker_url, "system", "prune", "--force"), self._nodes)

    def _join(self) -> None:
        """Form the swarm; managers join one after the other, as their consensus wants it."""
        first, *others = self._nodes
        docker_command.run(first.docker_url, "swarm", "init", *_addresses(first))
        tokens = {
            role: docker_command.run(first.docker_url, "swarm", "join-token", "--quiet", role).decode().strip()
            for role in ("manager", "worker")
        }

        def join(node: Node) -> None:
            command = ("swarm", "join", "--token", tokens[node.role], *_addresses(node), f"{first.address}:2377")
            docker_command.run(node.docker_url, *command)

        for node in others:
            if node.role == "manager":
                join(node)
        _at_once(join, [node for node in others if node.role == "worker"])
        self.wait_until_ready()


def _addresses(node: Node) -> list[str]:
    return [
        f"--listen-addr={node.address}:2377",
        f"--advertise-addr={node.address}",
        f"--data-path-addr={node.address}",
    ]


def _at_once(work: Callable[[Node], object], nodes: Iterable[Node]) -> None:
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(work, node) for node in nodes]:
            done.result()


def _copy(source: str, target: str, image: str) -> None:
    copy = 'docker --host "$1" save "$3" | docker --host "$2" load --quiet'
    done = subprocess.run(["sh", "-c", copy, "sh", source, target, image], capture_output=True, check=False)
    if done.returncode:
        raise DockerError(f"{image}: {done.stderr.decode(errors='replace').strip()}")


def _start_watcher(record: Record) -> subprocess.Popen[bytes]:
    # In a session of its own, so that what ends the owner's session spares it.
    return subprocess.Popen(
        [sys.executable, "-m", "dev.swarm.watcher", record.runtime],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        cwd="/",
        start_new_session=True,
    )
