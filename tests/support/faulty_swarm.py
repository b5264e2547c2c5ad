"""A service process on a swarm, for tests of faults. :meth:`FaultySwarm.settled` states what must hold after them."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager_client import connect
from dev import docker_command
from dev.swarm import Node, SwarmBed
from tests.support.calls import FOREVER, Calls
from tests.support.ledger import UNKNOWN
from tests.support.mixed_calls import MixedCalls
from tests.support.recorded_calls import Recorder
from tests.support.serving import ServerProcess
from tests.support.swarm_bots import SwarmBots
from tests.support.waiting import wait_until

Json = dict[str, Any]

CALL_SECONDS = 20.0
_SETTLED_SECONDS = 90.0
_OURS = "label=botmaker.managed=true"
RUNNING = pb.CONTAINER_STATE_RUNNING


class FaultySwarm:
    """Created by :func:`faulty_swarm`."""

    def __init__(self, bed: SwarmBed, bots: SwarmBots, directory: Path, image: str, manager: Node) -> None:
        self.bed = bed
        self.bots = bots
        self.image = image
        self.recorder = Recorder()
        self.target = f"unix://{directory}/run/s.sock"
        self._log = directory / "log"
        secrets_root = directory / "secrets"
        secrets_root.mkdir(mode=0o700)
        self._options = (
            *("--backend", "swarm", "--docker-host", manager.docker_url, "--listen", self.target),
            *("--secrets-root", str(secrets_root)),
            *("--default-image", image, "--bot-user", "0:0", "--grace-seconds", "2"),
            *("--allow-weaker", "no-new-privileges", "--allow-weaker", "grace-period"),
        )
        self._things = self.things()
        self.service = self.serve()

    def serve(self) -> ServerProcess:
        """Start the service, and wait until it listens."""
        self.service = ServerProcess(self._options, self._log)
        assert self.service.line, self.service.log_text()
        return self.service

    @contextmanager
    def calls(self) -> Iterator[Calls]:
        """Short forms of the calls, on a new channel."""
        with connect(self.target) as channel:
            yield Calls(ContainerManagerStub(channel))

    def nine(self, calls: Calls) -> list[str]:
        """Nine bots that run."""
        made = [self.bots.new() for _ in range(9)]
        with ThreadPoolExecutor(len(made)) as pool:
            list(pool.map(lambda bot_id: calls.run(bot_id, *FOREVER), made))
        return made

    def mix(self, seed: str, bot_ids: Sequence[str], *, callers: int = 3) -> MixedCalls:
        """A mix of operations on the bots."""
        return MixedCalls(
            *(seed, self.target, self.recorder, bot_ids), callers=callers, seconds=CALL_SECONDS, network="", pause=0.5
        )

    def seconds_until_all_run(self, calls: Calls, bot_ids: Sequence[str], dead: str, since: float) -> float:
        """How long after ``since`` all bots run on nodes that can be reached."""
        wait_until(lambda: set(bot_ids) == running(calls, dead), "all bots run", _SETTLED_SECONDS)
        return time.monotonic() - since

    def copies(self) -> Counter[str]:
        """The bots by the containers that really run of them, as the nodes' own engines tell."""
        found: Counter[str] = Counter()
        for node in (node for node in self.bed.nodes if node.on):
            rows = docker_command.run(
                node.docker_url, "ps", "--filter", _OURS, "--format", '{{.Label "botmaker.bot-id"}}', timeout=30
            )
            found.update(rows.decode().split())
        return found

    def things(self) -> Counter[str]:
        """The names of all networks and volumes of the nodes, and containers of bots in any state."""
        found: Counter[str] = Counter()
        for node in self.bed.nodes:
            for command in (
                ("network", "ls", "--format", "network {{.Name}}"),
                ("volume", "ls", "--format", "volume {{.Name}}"),
                ("ps", "--all", "--filter", _OURS, "--format", "container {{.Names}}"),
            ):
                found.update(docker_command.run(node.docker_url, *command, timeout=30).decode().splitlines())
        return found

    def settled(self, entries: Mapping[str, str | None], *, wrong: Sequence[str] = ()) -> int:
        """Assert no wrong answer, and no doubled or left bot, secret, network or volume; how many bots are lost.

        ``entries``: the container that each bot must have, according to the answers of its calls.
        """
        told = [*self.recorder.wrong, *wrong]
        assert not told, "\n".join(told)
        assert "Traceback" not in self.service.log_text()
        with self.calls() as calls:
            _wait_until_empty(lambda: self._disagreement(calls), "the service, the swarm and the nodes agree", 120)
            shown = {each.bot_id: each.container_id for each in calls.list()}
            services = Counter(each["Spec"]["Labels"]["botmaker.bot-id"] for each in self.bots.services())
            assert services.total() == len(services), f"doubled: {services}"
            assert shown.keys() <= {bot_id for bot_id, entry in entries.items() if entry is not None}
            known = {bot_id: entry for bot_id, entry in entries.items() if entry not in (None, UNKNOWN)}
            lost = sum(shown.get(bot_id) != entry for bot_id, entry in known.items())
            with ThreadPoolExecutor(len(entries)) as pool:
                list(pool.map(partial(_remove, calls), entries))
        assert not self.bots.containers()
        secrets = Counter(each["Spec"]["Labels"]["botmaker.bot-id"] for each in self.bots.secrets())
        # The set, and the one secret in it.
        assert set(secrets.values()) <= {2}, f"secrets left: {secrets}"
        _wait_until_empty(self._left, "nothing is left", 60)
        return lost

    def _left(self) -> str:
        """What there was not before the faults; empty: nothing. Containers with what nodes say of them."""
        if not (left := self.things() - self._things):
            return ""
        rows = [
            docker_command.run(node.docker_url, "ps", "--all", "--filter", _OURS, timeout=30).decode()
            for node in self.bed.nodes
        ]
        return "\n".join([*left, *rows])

    def _disagreement(self, calls: Calls) -> str:
        """What differs between the service, the swarm and the nodes; empty: they agree."""
        try:
            shown = {each.bot_id: each for each in calls.list()}
        except grpc.RpcError as exc:
            return f"no list: {exc}"
        services = {each["Spec"]["Labels"]["botmaker.bot-id"]: each for each in self.bots.services()}
        if shown.keys() != services.keys():
            return f"list: {sorted(shown)}, services: {sorted(services)}"
        wanted = {key for key, each in services.items() if each["Spec"]["Mode"]["Replicated"]["Replicas"]}
        run = {key for key, each in shown.items() if each.state == RUNNING}
        copies = self.copies()
        if not wanted == run == set(copies) or copies.total() != len(copies):
            return f"wanted {sorted(wanted)}, shown {sorted(run)}, there {copies}"
        phases = {each["Spec"]["Labels"]["botmaker.swarm.phase"] for each in services.values()}
        return "" if phases <= {"created", "started", "stopped"} else f"phases {phases}"

    def close(self) -> None:
        """Stop the service."""
        self.service.close()


def _remove(calls: Calls, bot_id: str) -> None:
    """Remove a bot. Where its node is missed for a moment, as managers may after a fault, it goes by itself."""
    try:
        calls.remove(bot_id, grace=0)
    except grpc.RpcError as exc:
        if exc.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        wait_until(lambda: calls.status(bot_id) is None, f"{bot_id} is removed", _SETTLED_SECONDS)


def _wait_until_empty(told: Callable[[], str], what: str, seconds: float) -> None:
    """Wait until nothing is told any more; fails with what is told last."""
    ends = time.monotonic() + seconds
    while (last := told()) and time.monotonic() < ends:
        time.sleep(0.1)
    assert not last, f"not within {seconds} s: {what}; {last}"


def running(calls: Calls, dead: str = "") -> set[str]:
    """The bots that run, on nodes other than the dead one; none while the service cannot tell."""
    try:
        shown = calls.list(RUNNING)
    except grpc.RpcError:
        return set()
    return {each.bot_id for each in shown if each.node not in ("", dead) and not each.node_unreachable}


@contextmanager
def faulty_swarm(bed: SwarmBed, bots: SwarmBots, directory: Path, image: str, manager: Node) -> Iterator[FaultySwarm]:
    """The service beside this manager."""
    swarm = FaultySwarm(bed, bots, directory, image, manager)
    try:
        yield swarm
    finally:
        swarm.close()
        # Shown for a test that has failed.
        sys.stdout.write(swarm.service.log_text()[-20_000:])
