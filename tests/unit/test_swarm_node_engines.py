"""What only the nodes' own engines can do, where the operator names them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from container_manager.backends.swarm.node_engines import NodeActions, NodeFigures
from container_manager.backends.swarm.source import SwarmSource
from container_manager.bot_directories import RootDirectory
from container_manager.engine.swarm import SwarmClient
from container_manager.errors import (
    ContainerManagerError,
    ContainerNotFoundError,
    InvalidStateError,
    NodeUnavailableError,
    NotSupportedByBackendError,
)
from container_manager.model import DiskUse, RawSample
from tests.support.fake_engine import FakeEngine, Json, error
from tests.support.scripted_swarm import ScriptedSwarm
from tests.support.swarm_services import clients
from tests.unit.test_stats import document

BOT = "6f9619ff-8b86-4d11-b42d-00cf4fc964ff"
OTHER = "16fd2706-8baf-433b-82eb-8c7fada847da"


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    """A node's own engine."""
    with FakeEngine() as engine:
        yield engine


async def sampled(swarm: ScriptedSwarm, key: str, endpoints: Mapping[str, str]) -> RawSample | None:
    source = SwarmSource(swarm)  # type: ignore[arg-type]
    async with clients(endpoints) as engines:
        await source.list()
        return await NodeFigures(engines, source).sample(key)


@pytest.mark.parametrize("name", ["machine-2", "node2"])
def test_a_sample_is_of_the_container_that_runs_by_the_engine_of_its_node(engine: FakeEngine, name: str) -> None:
    """Named by the node's host name or id."""
    swarm = ScriptedSwarm()
    key = swarm.add(BOT)
    swarm.set(swarm.run(key, node="node2"), "failed")
    task = swarm.run(key, node="node2")
    engine.on("GET", f"/containers/c-{task}/stats", Json(document()))
    found = asyncio.run(sampled(swarm, key, {name: engine.url, "machine-1": "unix:///nowhere"}))
    assert found is not None
    assert 1 == len(engine.seen("GET", "/containers/*/stats"))


@pytest.mark.parametrize("case", ["not named", "stopped", "gone"])
def test_a_bot_that_does_not_run_or_whose_node_is_not_named_has_no_sample(engine: FakeEngine, case: str) -> None:
    swarm = ScriptedSwarm()
    key = swarm.add(BOT)
    task = swarm.run(key, node="node1" if case == "not named" else "node2")
    if case == "stopped":
        swarm.set(task, "shutdown")
    assert None is asyncio.run(sampled(swarm, "none" if case == "gone" else key, {"machine-2": engine.url}))
    assert [] == engine.requests


def usage(key: str, bot_id: str, *sizes: int, volume: int = -1) -> Json:
    labels = {"botmaker.managed": "true", "botmaker.bot-id": bot_id, "com.docker.swarm.service.id": key}
    rows: list[Any] = [{"Id": "x", "Labels": labels, "SizeRw": size} for size in sizes if size]
    rows += [{"Id": "x", "Labels": labels} for size in sizes if not size]
    rows.append({"Id": "y", "Labels": {"botmaker.managed": "true"}, "SizeRw": 5})
    volumes = [{"Name": f"botmaker-{bot_id}", "UsageData": {"Size": volume}}, {"Name": "z", "UsageData": None}]
    return Json({"Containers": rows, "Volumes": volumes})


@pytest.mark.parametrize("shared", [False, True])
def test_disk_use_is_that_of_all_nodes_which_can_be_asked(engine: FakeEngine, shared: bool, tmp_path: Path) -> None:
    """A state is a volume of its node, or on storage that this machine shares."""
    root = RootDirectory(tmp_path, tmp_path) if shared else None
    if shared:
        (tmp_path / BOT).mkdir()
        (tmp_path / BOT / "state").write_bytes(b"x" * 100_000)
    with FakeEngine() as second, FakeEngine() as third:
        engine.on("GET", "/system/df", usage("s1", BOT, 10, 20, volume=77))
        second.on("GET", "/system/df", usage("s2", OTHER, 0))
        third.on("GET", "/system/df", error(500, "a disk usage operation is already running"))

        async def main() -> Mapping[str, DiskUse]:
            endpoints = {"a": engine.url, "b": second.url, "c": third.url, "d": "unix:///nowhere"}
            async with clients(endpoints) as engines:
                return await NodeFigures(engines, SwarmSource(ScriptedSwarm())).disk_use(root)  # type: ignore[arg-type]

        found = asyncio.run(main())
    assert {"s1", "s2"} == found.keys()
    assert (30, 0) == (found["s1"].layer_bytes, found["s2"].layer_bytes)
    assert None is found["s2"].state_bytes
    if shared:
        assert (found["s1"].state_bytes or 0) > 100_000
    else:
        assert 77 == found["s1"].state_bytes


class Managed:
    """A manager that has a bot on its first node, which is the only one that is named."""

    def __init__(self, manager: FakeEngine, node: FakeEngine) -> None:
        self.swarm = ScriptedSwarm()
        self.key = self.swarm.add(BOT)
        self.task = self.swarm.run(self.key)
        manager.on("GET", "/tasks", lambda _: Json(list(self.swarm.tasks.values())))
        manager.on("GET", "/nodes", lambda _: Json(list(self.swarm.nodes.values())))
        node.on("POST", "/containers/*/exec", error(409, "it is paused"))
        client = SwarmClient(manager.url, timeout_seconds=5)
        self.actions = NodeActions({"machine-1": node.url}, client, seconds=5)

    def refusal(self) -> ContainerManagerError:
        with pytest.raises(ContainerManagerError) as caught:
            self.actions.run(self.key, ["true"], seconds=5)
        self.actions.close()
        return caught.value


@pytest.fixture
def managed(engine: FakeEngine) -> Iterator[Managed]:
    with FakeEngine() as manager:
        yield Managed(manager, engine)


def test_a_program_runs_by_the_engine_of_the_bots_node(managed: Managed, engine: FakeEngine) -> None:
    assert "it is paused" in str(managed.refusal())
    (request,) = engine.seen("POST", f"/containers/c-{managed.task}/exec")
    assert ["true"] == request.body["Cmd"]


def test_a_program_in_a_bot_whose_node_is_not_named_is_refused_with_the_option(managed: Managed) -> None:
    managed.swarm.tasks[managed.task]["NodeID"] = "node3"
    refusal = managed.refusal()
    assert isinstance(refusal, NotSupportedByBackendError)
    assert "--node-engine machine-3=URL" in str(refusal)
    assert {"backend": "swarm", "node": "machine-3"} == refusal.metadata


def test_a_program_in_a_bot_whose_node_is_down_is_refused_with_its_name(managed: Managed, engine: FakeEngine) -> None:
    managed.swarm.set_node("node1", "down")
    refusal = managed.refusal()
    assert isinstance(refusal, NodeUnavailableError)
    assert {"node": "machine-1"} == refusal.metadata
    assert [] == engine.requests


def test_a_program_in_a_bot_that_does_not_run_is_refused(managed: Managed) -> None:
    managed.swarm.set(managed.task, "complete")
    assert isinstance(managed.refusal(), InvalidStateError)


def test_a_program_in_a_bot_that_is_gone_is_refused(engine: FakeEngine) -> None:
    with FakeEngine() as manager:
        managed = Managed(manager, engine)
        manager.on("GET", "/tasks", error(404, "service x not found"))
        assert isinstance(managed.refusal(), ContainerNotFoundError)
