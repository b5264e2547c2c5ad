"""Where bots' states are on a swarm, and what cannot be done with them."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from container_manager.backend import Feature
from container_manager.backend_maintenance import ImageFacts
from container_manager.backends.swarm import state_nodes, state_volumes
from container_manager.backends.swarm.backend import SwarmBackend
from container_manager.backends.swarm.limitations import limitations
from container_manager.backends.swarm.maintenance import SwarmMaintenance
from container_manager.backends.swarm.pinned_files import PinnedFiles
from container_manager.backends.swarm.pinned_states import PinnedStates
from container_manager.backends.swarm.state_nodes import StateNodes, node_with_state
from container_manager.backends.swarm.state_volumes import StateVolumes
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig, SwarmConfig
from container_manager.deadline import Deadline
from container_manager.engine.swarm import SwarmClient
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import (
    ContainerManagerError,
    EngineTimeoutError,
    EngineUnavailableError,
    InvalidStateError,
    NotSupportedByBackendError,
)
from container_manager.operation import Operation, carry_out
from tests.unit.swarm_documents import BOT

Json = dict[str, Any]


class Nodes:
    """The nodes of a swarm, with the rules of its manager."""

    def __init__(self) -> None:
        self.rows = {name: self._row(name) for name in ("a", "b")}
        self.before_update: Callable[[Json], None] = lambda _: None
        self.updates = 0
        self._lock = threading.Lock()

    @staticmethod
    def _row(name: str) -> Json:
        spec = {"Role": "worker", "Availability": "active", "Labels": {"zone": name}}
        return {"ID": name, "Version": {"Index": 5}, "Spec": spec, "Description": {"Hostname": f"machine-{name}"}}

    def list_nodes(self, _deadline: Deadline) -> list[Json]:
        return list(json.loads(json.dumps(list(self.rows.values()))))

    def update_node(self, document: Json, spec: Json) -> bool:
        row = self.rows[document["ID"]]
        self.before_update(row)
        with self._lock:
            self.updates += 1
            if row["Version"] != document["Version"]:
                return False
            row["Version"] = {"Index": row["Version"]["Index"] + 1}
            row["Spec"] = spec
            return True


@pytest.fixture
def nodes() -> Nodes:
    return Nodes()


@pytest.fixture
def states(nodes: Nodes) -> StateNodes:
    return StateNodes(cast("SwarmClient", nodes))


def test_a_node_is_marked_with_the_bots_whose_state_it_has_and_keeps_all_else(nodes: Nodes, states: StateNodes) -> None:
    assert states.find(BOT, Deadline()) is None
    for _ in range(2):
        carry_out(states.keep(BOT, "b"))
    assert {"zone": "b", f"botmaker.state.{BOT}": "true"} == nodes.rows["b"]["Spec"]["Labels"]
    assert ("worker", "active", 6) == (
        nodes.rows["b"]["Spec"]["Role"],
        nodes.rows["b"]["Spec"]["Availability"],
        nodes.rows["b"]["Version"]["Index"],
    )
    found = states.find(BOT, Deadline())
    assert found is not None
    assert "b" == found["ID"]
    carry_out(states.forget(BOT, "b"))
    assert {"zone": "b"} == nodes.rows["b"]["Spec"]["Labels"]


def test_a_change_of_the_node_by_somebody_else_is_kept(nodes: Nodes, states: StateNodes) -> None:
    def drain(row: Json) -> None:
        nodes.before_update = lambda _: None
        row["Version"] = {"Index": 9}
        row["Spec"]["Availability"] = "drain"

    nodes.before_update = drain
    carry_out(states.keep(BOT, "a"))
    assert ("drain", "true") == (
        nodes.rows["a"]["Spec"]["Availability"],
        nodes.rows["a"]["Spec"]["Labels"][f"botmaker.state.{BOT}"],
    )


@pytest.mark.parametrize("services", [1, 2])
def test_any_number_of_bots_may_get_a_state_on_one_node_at_the_same_time(nodes: Nodes, services: int) -> None:
    # Longer than it takes to start the threads: without order, one update succeeds in this time.
    nodes.before_update = lambda _: time.sleep(0.02)
    each = [StateNodes(cast("SwarmClient", nodes)) for _ in range(services)]
    with ThreadPoolExecutor(40) as threads:
        list(threads.map(lambda number: carry_out(each[number % services].keep(f"bot-{number}", "a")), range(40)))
    assert {"zone", *(f"botmaker.state.bot-{number}" for number in range(40))} == set(nodes.rows["a"]["Spec"]["Labels"])
    assert services > 1 or 40 == nodes.updates, "one service is never in its own way"


def test_a_node_that_others_change_many_times_is_marked_in_the_end(nodes: Nodes, states: StateNodes) -> None:
    changes = iter(range(30))

    def change(row: Json) -> None:
        if next(changes, None) is not None:
            row["Version"] = {"Index": row["Version"]["Index"] + 1}

    nodes.before_update = change
    carry_out(states.keep(BOT, "a"))
    assert node_with_state(BOT, nodes.list_nodes(Deadline())) is not None


def test_a_change_of_a_node_that_hangs_holds_up_other_changes_of_this_node_for_some_seconds_and_no_thread(
    nodes: Nodes, states: StateNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, answers = threading.Event(), threading.Event()

    def hang(_: Json) -> None:
        nodes.before_update = lambda _: None
        begun.set()
        assert answers.wait(60)

    carry_out(states.keep("marked", "a"))
    nodes.before_update = hang
    with ThreadPoolExecutor(1) as threads, ExitStack() as stack:
        stack.callback(answers.set)
        hanging = threads.submit(carry_out, states.keep("first", "a"))
        assert begun.wait(60)
        begins = time.monotonic()
        assert (next(states.keep(BOT, "a")).longest() or 1) <= 0.1
        assert time.monotonic() < begins + 5
        assert list(states.keep("marked", "a")) == [], "a bot that is started again waits for none"
        monkeypatch.setattr(state_nodes, "_PATIENCE_SECONDS", 0.1)
        with pytest.raises(EngineUnavailableError, match="try again later"):
            carry_out(states.keep(BOT, "a"))
        carry_out(states.keep(BOT, "b"))
        answers.set()
        hanging.result(60)
        carry_out(states.keep(BOT, "a"))


def test_a_service_is_not_in_its_own_way_when_starts_deletions_and_restores_change_one_node(tmp_path: Path) -> None:
    async def backend_of_service() -> None:
        root = RootDirectory(tmp_path, tmp_path)
        config = BackendConfig(secrets_root=root, state_root=root, docker_host="tcp://127.0.0.1:1")
        backend = SwarmBackend(config, SwarmConfig("pinned"))
        assert isinstance(backend.files, PinnedFiles)
        assert isinstance(backend.states, PinnedStates)
        assert backend.lifecycle._starts._state_nodes is backend.files._nodes is backend.states._nodes
        await backend.close()

    asyncio.run(backend_of_service())


def test_a_node_that_changes_all_the_time_or_cannot_be_changed_is_told(
    nodes: Nodes, states: StateNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_nodes, "_PATIENCE_SECONDS", 0.1)
    nodes.before_update = lambda row: row.update(Version={"Index": row["Version"]["Index"] + 1})
    with pytest.raises(EngineUnavailableError, match="try again later"):
        carry_out(states.keep(BOT, "a"))
    assert 50 > nodes.updates, "with pauses"

    def refuse(_: Json) -> None:
        raise EngineRejectedError(500, "no leader")

    nodes.before_update = refuse
    with pytest.raises(EngineUnavailableError, match="no leader"):
        carry_out(states.keep(BOT, "a"))
    carry_out(states.keep(BOT, "gone"))
    assert node_with_state(BOT, nodes.list_nodes(Deadline())) is None


class Volumes:
    """The engine of a node, in place of its client."""

    def __init__(self, outcomes: Iterable[bool | Exception], node_id: str = "b") -> None:
        self._node_id = node_id
        self.removed: list[tuple[str, str]] = []
        self._outcomes = list(outcomes)
        self._url = ""

    def __call__(self, url: str, **_: Any) -> Volumes:
        self._url = url
        return self

    def info(self, _: Deadline) -> Json:
        return {"Swarm": {"NodeID": self._node_id}}

    def remove_volume(self, name: str) -> bool:
        self.removed.append((self._url, name))
        outcome = self._outcomes.pop(0) if len(self._outcomes) > 1 else self._outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def containers_with(self, _name: str) -> list[Json]:
        return []

    def close(self) -> None:
        """Nothing is open."""


def files(states: StateNodes, **endpoints: str) -> PinnedFiles:
    volumes = StateVolumes({name.replace("_", "-"): url for name, url in endpoints.items()}, seconds=5)
    return PinnedFiles(states, volumes, None)


def test_a_state_on_a_node_whose_engine_is_not_named_stays_and_the_refusal_says_how_to_delete_it(
    nodes: Nodes, states: StateNodes
) -> None:
    files(states).delete_state(BOT)
    carry_out(states.keep(BOT, "b"))
    before = nodes.list_nodes(Deadline())
    with pytest.raises(NotSupportedByBackendError) as caught:
        files(states, machine_a="tcp://a:1").delete_state(BOT)
    assert {"bot_id": BOT, "backend": "swarm", "node": "machine-b"} == caught.value.metadata
    assert f"docker volume rm botmaker-{BOT}" in str(caught.value)
    assert f"docker node update --label-rm botmaker.state.{BOT} machine-b" in str(caught.value)
    assert before == nodes.list_nodes(Deadline())
    with pytest.raises(NotSupportedByBackendError):
        files(states).put_files(BOT, {})


@pytest.mark.parametrize("name", ["machine_b", "b"])
def test_a_state_on_a_node_whose_engine_is_named_is_deleted_once_no_container_has_it(
    states: StateNodes, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    volumes = Volumes([False, False, True])
    monkeypatch.setattr(state_volumes, "VolumeClient", volumes)
    monkeypatch.setattr(state_volumes, "_LOOK_SECONDS", 0.001)
    carry_out(states.keep(BOT, "b"))
    files(states, **{name: "tcp://b:1"}).delete_state(BOT)
    assert [("tcp://b:1", f"botmaker-{BOT}")] * 3 == volumes.removed
    assert states.find(BOT, Deadline()) is None


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (False, InvalidStateError),
        (EngineRejectedError(500, "broken"), EngineUnavailableError),
        (EngineTimeoutError("slow"), EngineTimeoutError),
    ],
)
def test_a_state_that_was_not_deleted_is_still_known(
    states: StateNodes,
    monkeypatch: pytest.MonkeyPatch,
    outcome: bool | Exception,
    error: type[ContainerManagerError],
) -> None:
    monkeypatch.setattr(state_volumes, "VolumeClient", Volumes([outcome]))
    monkeypatch.setattr(state_volumes, "_IN_USE_SECONDS", 0.01)
    carry_out(states.keep(BOT, "b"))
    with pytest.raises(error):
        files(states, b="tcp://b:1").delete_state(BOT)
    assert states.find(BOT, Deadline()) is not None


@pytest.mark.parametrize("node_id", ["a", ""], ids=["another node", "no node"])
def test_a_state_is_not_taken_for_deleted_by_an_engine_that_is_not_that_of_its_node(
    states: StateNodes, monkeypatch: pytest.MonkeyPatch, node_id: str
) -> None:
    """Two nodes may have the same host name."""
    volumes = Volumes([True], node_id)
    monkeypatch.setattr(state_volumes, "VolumeClient", volumes)
    carry_out(states.keep(BOT, "b"))
    with pytest.raises(EngineUnavailableError, match="--node-engine"):
        files(states, machine_b="tcp://a:1").delete_state(BOT)
    assert [] == volumes.removed
    assert states.find(BOT, Deadline()) is not None


NAMED = {"n": "tcp://n:1"}
RESTARTS = {Feature.SECRETS_RELOAD, Feature.PAUSE}
NO_ENGINES = {Feature.STATS, Feature.ACTIONS}


@pytest.mark.parametrize(
    ("swarm", "keeps_states", "lacks"),
    [
        (SwarmConfig("floating"), True, RESTARTS | NO_ENGINES),
        (SwarmConfig("floating", node_engines=NAMED), True, RESTARTS),
        (SwarmConfig("pinned", node_engines=NAMED), True, RESTARTS | {Feature.FILES}),
        (SwarmConfig("pinned"), True, RESTARTS | NO_ENGINES | {Feature.FILES, Feature.BACKUPS}),
        (SwarmConfig("pinned", node_engines=NAMED), False, RESTARTS | {Feature.FILES, Feature.BACKUPS}),
    ],
    ids=["floating", "with nodes' engines", "pinned", "pinned and none named", "pinned without a place for copies"],
)
def test_what_a_swarm_cannot_do_follows_from_its_options(
    swarm: SwarmConfig, keeps_states: bool, lacks: set[Feature]
) -> None:
    root = RootDirectory(Path("/r"), Path("/r"))
    found = limitations(BackendConfig(secrets_root=root, state_root=root if keeps_states else None), swarm)
    assert lacks == set(found)
    if Feature.BACKUPS in lacks:
        option = "--node-engine" if keeps_states else "--state-root"
        assert option in found[Feature.BACKUPS]
        assert "skip_backup" in found[Feature.BACKUPS]


def test_maintenance_of_a_swarm_takes_images_by_their_digests_and_pauses_nothing() -> None:
    class Images:
        def prepare(self, requested: str, _deadline: Deadline) -> Operation[str]:
            yield from ()
            return f"digest of {requested}"

    maintenance = SwarmMaintenance(cast("Any", Images()))
    assert "digest of bot:2" == carry_out(maintenance.prepare_image("bot:2"))
    assert not maintenance.pause("c")
    maintenance.unpause("c")
    assert ImageFacts() == maintenance.image_facts("sha256:1")
