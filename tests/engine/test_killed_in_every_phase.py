"""The service is killed with SIGKILL in each phase of upgrades, backups and restores of a bot on a real engine.

After its next start, each operation ends by itself, with nothing lost, and the same request gives its outcome.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker
import grpc
import pytest

from botmaker.container.v1 import container_maintainer_pb2 as pb
from botmaker.container.v1 import container_manager_pb2 as manager_pb
from container_manager.maintenance.journal import JOURNAL_DIRECTORY
from container_manager.model import container_name
from container_manager_client import error_info
from tests.support.bots import Bots
from tests.support.maintained_service import MaintainedService
from tests.support.start_failure_contract import BuildImage
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="the bots of this module are root's"),
]

SEED = "20261129 every phase"
STATE = "/home/node/.openclaw"
# Takes a moment to stop, is healthy unless its data is broken, and writes what it has made of its state.
PROGRAM = f"""HEALTHCHECK --interval=1s --retries=2 CMD test -e /tmp/up && ! grep -q broken {STATE}/data
CMD ["sh", "-c", "trap 'sleep 0.3; exit 0' TERM; MIGRATE; touch /tmp/up; while :; do sleep 0.1; done"]"""
OLD = PROGRAM.replace("MIGRATE", f"grep -q 2 {STATE}/version && exit 78; echo 1 >{STATE}/version")
NEW = PROGRAM.replace("MIGRATE", f"echo 2 >{STATE}/version; echo migrated >{STATE}/data")
BROKEN = PROGRAM.replace("MIGRATE", f"echo 2 >{STATE}/version; echo broken >{STATE}/data")
# So many that each copy takes a while.
FILES = 3_000
UPGRADE = ("PULLING", "STOPPING", "BACKING_UP", "REPLACING", "WAITING_READY", "COMMITTED")
RESTORE = ("VERIFYING", "STOPPING", "REPLACING", "WAITING_READY", "COMMITTED")
HEALTHY = (manager_pb.CONTAINER_STATE_RUNNING, manager_pb.HEALTH_STATUS_HEALTHY)


class World:
    """One bot and its service."""

    def __init__(
        self, service: MaintainedService, roots: Path, secrets_root: Path, bot_id: str, engine: docker.DockerClient
    ) -> None:
        self.service = service
        self._engine = engine
        self.bot_id = bot_id
        self.state = roots / "states" / bot_id
        self.found: set[str] = set()
        """The phases on the disk of the operations whose service was killed."""
        self._asides = roots / "states" / ".maintenance" / bot_id
        self._journal = secrets_root / JOURNAL_DIRECTORY
        self._draw = random.Random(SEED)

    def request_id(self, name: str) -> str:
        """One that no other test has."""
        return f"{name}-{self.bot_id}"

    def restore_newest(self, request_id: str) -> None:
        """Make the bot again as its newest backup has it."""
        newest, *_ = self.service.maintainer.ListBackups(pb.ListBackupsRequest(bot_id=self.bot_id)).backups
        self.service.calls.remove(self.bot_id, grace=0)
        *_, last = self.service.restore(self.bot_id, newest.backup_id, request_id)
        assert pb.RESTORE_PHASE_COMMITTED == last.phase

    def fill(self) -> None:
        """Give the bot a state that takes a while to copy."""
        wait_until((self.state / "version").exists, "the bot runs")
        (self.state / "many").mkdir()
        for number in range(FILES):
            (self.state / "many" / str(number)).write_text("old")
        self.data = "good\n"

    @property
    def data(self) -> str:
        """What the bot has in its state."""
        return (self.state / "data").read_text()

    @data.setter
    def data(self, text: str) -> None:
        (self.state / "data").write_text(text)

    def copies(self) -> list[str]:
        """The bot's data in its state and in all complete copies beside it."""
        asides = self._asides.iterdir() if self._asides.exists() else ()
        places = [self.state, *(each for each in asides if each.suffix != ".part")]
        return [(each / "data").read_text() for each in places if (each / "data").exists()]

    def asides(self) -> list[str]:
        """The names of what is beside the bot's state."""
        return [each.name for each in self._asides.iterdir()] if self._asides.exists() else []

    def unfinished(self) -> list[dict[str, Any]]:
        """The records of operations that have not ended."""
        contents = []
        for path in self._journal.glob("*.json"):
            with suppress(FileNotFoundError):
                contents.append(path.read_text())
        records = [json.loads(each) for each in contents]
        return [each for each in records if each["outcome"] is None and each["bot_id"] == self.bot_id]

    def kill_in(self, call: Callable[[], Iterator[Any]], is_it: Callable[[Any], bool]) -> None:
        """Kill the service a moment after the first such message of a call, and start it again."""
        with suppress(grpc.RpcError):
            next(message for message in call() if is_it(message))
            time.sleep(self._draw.random() * 0.1)
        self._kill()
        wait_until(lambda: not self.unfinished(), "the operation ends by itself", 120)

    def kill_at(self, call: Callable[[], Iterator[Any]], is_there: Callable[[dict[str, Any]], bool]) -> None:
        """Kill the service as soon as a call has such a record, and start it again."""

        def work() -> None:
            with suppress(grpc.RpcError):
                list(call())

        thread = threading.Thread(target=work)
        thread.start()
        wait_until(lambda: any(map(is_there, self.unfinished())), "the record is there")
        self._kill()
        thread.join()

    def _kill(self) -> None:
        self.service.kill()
        self.found |= {record["phase"] for record in self.unfinished()}
        assert "good\n" in self.copies() or "migrated\n" in self.copies(), "the only copy is gone"
        self.service.start()

    def networks(self) -> list[str]:
        """The names of the bot's own networks."""
        found = self._engine.networks.list(filters={"label": f"botmaker.bot-id={self.bot_id}"})
        return [str(network.name) for network in found]

    def is_well(self) -> bool:
        """Whether the bot runs and is healthy, before long."""

        def status() -> tuple[int, int]:
            found = self.service.calls.status(self.bot_id) or manager_pb.ContainerStatus()
            return found.state, found.health

        return wait_until(lambda: status() == HEALTHY, "the bot is well", 60)

    def image(self) -> str:
        """The image of its container."""
        return (self.service.calls.status(self.bot_id) or manager_pb.ContainerStatus()).image


def outcome(call: Callable[[], Iterator[Any]], phases: Any) -> str:
    """How an operation ends: its last phase, or its reason."""
    try:
        *_, last = call()
    except grpc.RpcError as exc:
        return error_info(exc).reason
    return str(phases.Name(last.phase))


@pytest.fixture
def bot_network() -> str:
    """The service's ``--bot-network``."""
    return "bridge"


@pytest.fixture
def world(  # noqa: PLR0917
    maintained: MaintainedService,
    maintained_roots: Path,
    secrets_root: Path,
    bots: Bots,
    build_image: BuildImage,
    bot_network: str,
) -> Iterator[World]:
    """A running bot of the old image. At the end it leaves no network behind."""
    maintained.kill()
    maintained.start("--bot-network", bot_network)
    bot_id = bots.new()
    maintained.calls.run(bot_id, image=build_image(OLD))
    world = World(maintained, maintained_roots, secrets_root, bot_id, bots.engine)
    world.fill()
    world.is_well()
    yield world
    maintained.calls.remove(bot_id, grace=0)
    assert [] == world.networks()


@pytest.mark.parametrize(
    ("goes_well", "bot_network"), [(True, "bridge"), (False, "bridge"), (False, "isolated")], ids=str
)
def test_an_upgrade(world: World, build_image: BuildImage, bot_network: str, goes_well: bool) -> None:
    own_networks = [container_name(world.bot_id)] if bot_network == "isolated" else []
    old, new = world.image(), build_image(NEW if goes_well else BROKEN)
    phases = UPGRADE if goes_well else (*UPGRADE[:-1], "ROLLING_BACK")
    for number, phase in enumerate(phases):
        wanted = pb.UpgradePhase.Value(f"UPGRADE_PHASE_{phase}")

        def call(request_id: str = world.request_id(f"upgrade-{number}")) -> Iterator[pb.UpgradeContainerResponse]:
            return world.service.upgrade(world.bot_id, new, request_id)

        world.kill_in(call, lambda message, wanted=wanted: message.phase == wanted)
        begun = phase != "PULLING" or world.image() == new
        assert world.is_well()
        if goes_well:
            assert ((new, "migrated\n") if begun else (old, "good\n")) == (world.image(), world.data), phase
            assert [] == world.asides()
            assert "UPGRADE_PHASE_COMMITTED" == outcome(call, pb.UpgradePhase)
            world.restore_newest(world.request_id(f"back-{number}"))
        else:
            assert "UPGRADE_ROLLED_BACK" == outcome(call, pb.UpgradePhase)
            assert ["failed"] == world.asides()
        assert world.is_well()
        assert (old, "good\n") == (world.image(), world.data), phase
        assert own_networks == world.networks()
        assert FILES == len(list((world.state / "many").iterdir()))
    # Too short for this on some machines; tests/unit/test_maintenance_killed.py has a kill before and after each step.
    assert {each.lower() for each in phases[1:]} - {"committed", "replacing"} <= world.found


@pytest.mark.parametrize("goes_well", [True, False])
def test_a_restore(world: World, goes_well: bool) -> None:
    bot_id, service = world.bot_id, world.service
    world.data = "good\n" if goes_well else "broken\n"
    backup = service.create_backup(bot_id, world.request_id("archive"))
    phases = RESTORE if goes_well else (*RESTORE[:-1], "ROLLING_BACK")
    for number, phase in enumerate(phases):
        world.data = "good\n"
        (world.state / "since").write_text("the backup")
        assert world.is_well()
        wanted = pb.RestorePhase.Value(f"RESTORE_PHASE_{phase}")

        def call(request_id: str = world.request_id(f"restore-{number}")) -> Iterator[pb.RestoreBackupResponse]:
            return service.restore(bot_id, backup.backup_id, request_id)

        world.kill_in(call, lambda message, wanted=wanted: message.phase == wanted)
        assert world.is_well()
        assert ("RESTORE_PHASE_COMMITTED" if goes_well else "UPGRADE_ROLLED_BACK") == outcome(call, pb.RestorePhase)
        assert world.is_well()
        assert "good\n" == world.data, phase
        assert goes_well is not (world.state / "since").exists()
        assert ([] if goes_well else ["failed"]) == world.asides()
        assert FILES == len(list((world.state / "many").iterdir()))
    # Two renames are too short for this; tests/unit/test_maintenance_killed.py has a kill before and after each.
    assert {each.lower() for each in phases[1:]} - {"committed", "replacing"} <= world.found


@pytest.mark.parametrize("stops", [False, True])
def test_a_backup(world: World, stops: bool) -> None:
    phases = ("copying", "archiving")
    for number, phase in enumerate(phases):
        request_id = world.request_id(f"backup-{number}")
        request = pb.CreateBackupRequest(bot_id=world.bot_id, request_id=request_id, stop_and_restart=stops)

        def call(request: pb.CreateBackupRequest = request) -> Iterator[pb.CreateBackupResponse]:
            return world.service.maintainer.CreateBackup(request, timeout=120)

        def is_in(record: dict[str, Any], phase: str = phase) -> bool:
            facts = record["facts"]
            return record["phase"] == phase and (
                phase == "archiving" or bool(facts.get("stopped") or facts.get("paused"))
            )

        world.kill_at(call, is_in)
        *_, last = call()
        assert world.is_well()
        assert "good\n" == world.data
        assert [] == world.asides()
        kept = world.service.maintainer.ListBackups(pb.ListBackupsRequest(bot_id=world.bot_id)).backups
        assert last.backup in kept
        assert number + 1 == len(kept)
    assert set(phases) <= world.found
