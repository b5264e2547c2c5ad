"""The doctor's findings about a swarm: each problem has a verdict and a remedy."""

from __future__ import annotations

import base64
import json
import os
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from container_manager.backends.swarm.service_spec import Weaker
from container_manager.bot_directories import RootDirectory
from container_manager.doctor import Finding, Verdict, swarm_checks
from container_manager.doctor.node_engines import NodeEngine
from container_manager.doctor.swarm_checks import check_swarm
from tests.support.fake_engine import FakeEngine, Hang, Json, Raw, error
from tests.unit.documents import row

Document = dict[str, Any]
BOT = "6f9619ff-8b86-4d11-b42d-00cf4fc964ff"
PATH_STAT = "X-Docker-Container-Path-Stat"
MANAGER = {"Swarm": {"LocalNodeState": "active", "ControlAvailable": True, "NodeID": "id-n1"}}


def node(name: str, role: str = "worker", **changes: Any) -> Document:
    """A node in order, as a manager lists it; managers are drained."""
    manager = role == "manager"
    return {
        "ID": f"id-{name}",
        "Spec": {"Role": role, "Availability": changes.get("availability", "drain" if manager else "active")},
        "Description": {"Hostname": name, "Engine": {"EngineVersion": changes.get("version", "28.5.2+dfsg4")}},
        "Status": {"State": changes.get("state", "ready"), "Message": changes.get("message", "")},
        **({"ManagerStatus": {"Reachability": changes.get("reachability", "reachable")}} if manager else {}),
    }


MANAGERS = [node(f"m{number}", "manager") for number in (1, 2, 3)]
WORKERS = [node("w1"), node("w2")]
SWARM = [*MANAGERS, *WORKERS]


def engine(name: str, *security: str, **changes: Any) -> NodeEngine:
    """The answers of a node's engine."""
    info = {"Name": name, "Swarm": {"NodeID": f"id-{name}"}, "SecurityOptions": security}
    return NodeEngine(name, f"tcp://{name}", info=info, **changes)


def assert_remedy(finding: Finding) -> None:
    assert (finding.verdict is not Verdict.OK) == bool(finding.remedy), "a remedy exactly where one is needed"


@pytest.mark.parametrize(
    ("nodes", "verdict", "words"),
    [
        (SWARM, Verdict.OK, "without 1 of them"),
        ([MANAGERS[0], *WORKERS], Verdict.WARNING, "only one, and without m1"),
        ([*MANAGERS[:2], *WORKERS], Verdict.WARNING, "only two"),
        (
            [*MANAGERS[:2], node("m3", "manager", reachability="unreachable")],
            Verdict.FAILED,
            "m3 cannot be reached: 2 of 3",
        ),
    ],
)
def test_managers_are_three_that_reach_each_other(nodes: list[Document], verdict: Verdict, words: str) -> None:
    found = swarm_checks.managers(nodes)
    assert verdict is found.verdict
    assert words in found.detail
    assert_remedy(found)


@pytest.mark.parametrize(
    ("nodes", "verdict", "words"),
    [
        (SWARM, Verdict.OK, "are drained"),
        ([*WORKERS, node("m1", "manager", availability="pause")], Verdict.OK, "are drained"),
        ([*WORKERS, node("m1", "manager", availability="active")], Verdict.WARNING, "m1 may run bots"),
        ([node("m1", "manager", availability="active")], Verdict.OK, "the only node"),
    ],
)
def test_managers_are_drained_of_bots(nodes: list[Document], verdict: Verdict, words: str) -> None:
    found = swarm_checks.bots_on_managers(nodes)
    assert verdict is found.verdict
    assert words in found.detail
    assert_remedy(found)


@pytest.mark.parametrize(
    ("nodes", "verdict", "words"),
    [
        (SWARM, Verdict.OK, "m1, m2, m3, w1, w2 are ready"),
        ([*SWARM, node("w3", state="down", message="heartbeat failure")], Verdict.FAILED, "from w3: heartbeat failure"),
        ([*SWARM, node("w3", state="disconnected")], Verdict.FAILED, "from w3: disconnected"),
        ([*MANAGERS, node("w1", availability="pause")], Verdict.FAILED, "none takes bots"),
        ([*SWARM, node("w3", availability="pause")], Verdict.WARNING, "w3 are paused"),
        ([*MANAGERS, *(node(f"w{i}") for i in range(9))], Verdict.OK, "m1, m2, m3, w0, w1 and 7 more"),
    ],
)
def test_the_managers_hear_from_all_nodes_and_some_take_bots(
    nodes: list[Document], verdict: Verdict, words: str
) -> None:
    found = swarm_checks.reachable(nodes)
    assert verdict is found.verdict
    assert words in found.detail
    assert_remedy(found)


@pytest.mark.parametrize(
    ("versions", "verdict"),
    [
        (["28.5.2+dfsg4", "28.5.2+dfsg4"], Verdict.OK),
        (["28.5.2", "20.10.24+dfsg1"], Verdict.WARNING),
        (["28.5.2", "19.03.13"], Verdict.FAILED),
        (["28.5.2", ""], Verdict.FAILED),
    ],
)
def test_engines_have_one_version_that_is_recent_enough(versions: list[str], verdict: Verdict) -> None:
    found = swarm_checks.versions([node(f"w{number}", version=version) for number, version in enumerate(versions)])
    assert verdict is found.verdict
    assert "28.5.2" in found.detail
    assert_remedy(found)


@pytest.mark.parametrize(
    ("engines", "verdict", "words"),
    [
        ([], Verdict.OK, "no stats of bots on m1, m2, m3, w1, w2"),
        ([engine("w1")], Verdict.OK, "no stats of bots on m1, m2, m3, w2"),
        ([engine(each["Description"]["Hostname"]) for each in SWARM], Verdict.OK, "all 5 answer"),
        ([engine("w9")], Verdict.FAILED, "no node w9"),
        ([NodeEngine("w1", "tcp://w1", problem="refused")], Verdict.FAILED, "w1: refused"),
        ([NodeEngine("w1", "tcp://x", info=engine("w2").info)], Verdict.FAILED, "tcp://x is not w1 but w2"),
    ],
)
def test_a_named_engine_answers_and_is_that_of_its_node(
    engines: list[NodeEngine], verdict: Verdict, words: str
) -> None:
    found = swarm_checks.named_engines(SWARM, engines)
    assert verdict is found.verdict
    assert words in found.detail
    assert_remedy(found)


OLD = node("old", version="20.10.24+dfsg1")
ACCEPTED = {Weaker.NO_NEW_PRIVILEGES}


@pytest.mark.parametrize(
    ("nodes", "engines", "accepted", "verdict"),
    [
        (SWARM, [], set(), Verdict.OK),
        ([*SWARM, node("w3", version="24.0.9")], [], set(), Verdict.FAILED),
        ([*SWARM, node("w3", version="25.0.0")], [], set(), Verdict.OK),
        ([*SWARM, OLD], [], ACCEPTED, Verdict.WARNING),
        ([*SWARM, OLD], [engine("old", "name=seccomp,profile=default")], set(), Verdict.FAILED),
        ([*SWARM, OLD], [engine("old", "name=no-new-privileges")], set(), Verdict.FAILED),
        ([*SWARM, OLD], [engine("old", "name=no-new-privileges")], ACCEPTED, Verdict.OK),
        ([*SWARM, OLD], [engine("w1", "name=no-new-privileges")], ACCEPTED, Verdict.WARNING),
    ],
)
def test_no_new_privileges_holds_on_every_node(
    nodes: list[Document], engines: list[NodeEngine], accepted: set[Weaker], verdict: Verdict
) -> None:
    found = swarm_checks.no_new_privileges(nodes, engines, accepted)
    assert verdict is found.verdict
    assert_remedy(found)


@pytest.mark.parametrize(
    ("engines", "verdict", "words"),
    [
        ([engine("w1", "name=cgroupns"), engine("w2", "name=seccomp", "name=cgroupns")], Verdict.OK, "on every node"),
        ([engine("w1", "name=seccomp"), engine("w2", "name=cgroupns")], Verdict.WARNING, "bots on w1 share"),
        ([engine("w1", "name=cgroupns")], Verdict.OK, "not known of w2"),
        (
            [NodeEngine("w1", "tcp://w1", problem="refused"), engine("w2", "name=cgroupns")],
            Verdict.OK,
            "not known of w1",
        ),
    ],
)
def test_bots_have_control_group_namespaces_of_their_own(
    engines: list[NodeEngine], verdict: Verdict, words: str
) -> None:
    found = swarm_checks.cgroup_namespaces(WORKERS, engines)
    assert verdict is found.verdict
    assert words in found.detail
    assert_remedy(found)


def task(name: str, late: float) -> Document:
    """A task of that node, of whose state the manager took note so many seconds later, by the two clocks."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return {
        "NodeID": f"id-{name}",
        "UpdatedAt": (moment + timedelta(seconds=late)).isoformat(),
        "Status": {"Timestamp": moment.isoformat()},
    }


@pytest.mark.parametrize(
    ("engines", "tasks", "verdict", "words"),
    [
        ([engine("w1"), engine("w2")], [], Verdict.OK, "of all nodes agree"),
        ([engine("w1"), engine("w2", seconds_off=-2.5)], [], Verdict.WARNING, "w2's is -2.5 s off"),
        ([engine("w1"), engine("w2", seconds_off=7.0)], [], Verdict.WARNING, "w2's is +7.0 s off"),
        ([], [], Verdict.OK, "not known of w1, w2"),
        ([], [task("w1", 0.1), task("w2", 0.2)], Verdict.OK, "of all nodes agree"),
        ([], [task("w1", -3.0), task("w2", 0.2)], Verdict.WARNING, "w1's is +3.0 s off"),
        ([engine("w1")], [task("w1", -3.0), task("w2", 0.2)], Verdict.OK, "of all nodes agree"),
        # A change of the task long after the node wrote it, or a clock that is behind.
        ([], [task("w1", 99.0), task("w2", 0.2)], Verdict.OK, "not known of w1"),
        ([], [task("w1", 99.0), task("w1", 0.3), task("w2", 0.2)], Verdict.OK, "of all nodes agree"),
    ],
)
def test_clocks_are_compared_by_engines_and_else_by_tasks(
    engines: list[NodeEngine], tasks: list[Document], verdict: Verdict, words: str
) -> None:
    found = swarm_checks.clocks(WORKERS, engines, tasks)
    assert verdict is found.verdict
    assert words in found.detail
    assert_remedy(found)


@pytest.mark.parametrize(
    ("engines", "verdict", "words"),
    [
        ([engine("w1", shares_state=True), engine("w2", shares_state=True)], Verdict.OK, "/states is the same"),
        ([engine("w1", shares_state=True), engine("w2", shares_state=False)], Verdict.FAILED, "on w2"),
        ([engine("w1", shares_state=True), engine("w2")], Verdict.WARNING, "not known of w2"),
        ([], Verdict.WARNING, "not known of w1, w2"),
    ],
)
def test_shared_storage_is_the_same_wherever_it_can_be_seen(
    engines: list[NodeEngine], verdict: Verdict, words: str
) -> None:
    root = RootDirectory(Path("/states"), Path("/states"))
    found = swarm_checks.shared_storage([node("m1", "manager"), *WORKERS], engines, root)
    assert verdict is found.verdict
    assert words in found.detail
    assert_remedy(found)


def check(docker_host: str, **arguments: Any) -> dict[str, Finding]:
    given: Document = {"node_engines": {}, "shared_state": None, "accepted": ()}
    found = check_swarm(docker_host, **{**given, **arguments})
    for finding in found:
        assert_remedy(finding)
    return {finding.name: finding for finding in found}


@pytest.mark.parametrize(
    ("swarm", "words"),
    [
        ({}, "not a part of a swarm"),
        ({"LocalNodeState": "inactive"}, "not a part of a swarm"),
        ({"LocalNodeState": "active", "ControlAvailable": False}, "a worker"),
    ],
)
def test_an_engine_that_is_no_manager_is_failed_and_the_only_finding(swarm: Document, words: str) -> None:
    with FakeEngine() as manager:
        manager.on("GET", "/info", Json({"Swarm": swarm}))
        found = check(manager.url)
    assert ["swarm"] == list(found)
    assert Verdict.FAILED is found["swarm"].verdict
    assert words in found["swarm"].detail


@pytest.mark.parametrize("answer", [error(503, "The swarm does not have a leader."), Hang()])
def test_a_swarm_without_a_leader_is_failed_within_seconds(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swarm_checks, "_TIMEOUT_SECONDS", 0.3)
    with FakeEngine() as manager:
        manager.on("GET", "/info", Json(MANAGER))
        manager.on("GET", "/nodes", answer)
        start = time.monotonic()
        found = check(manager.url)
        assert time.monotonic() - start < 5
    assert ["swarm"] == list(found)
    assert "more than half" in found["swarm"].remedy


@pytest.mark.parametrize(("shifted", "verdict"), [(0, Verdict.OK), (1, Verdict.FAILED)])
def test_a_nodes_engine_tells_its_clock_and_whether_a_bots_state_is_the_one_here(
    tmp_path: Path, shifted: int, verdict: Verdict
) -> None:
    """The state is known by its time, which another directory of the same name does not have."""
    state = tmp_path / BOT
    state.mkdir()
    os.utime(state, ns=(0, 1_000_000_000_000_000_001))
    seen = datetime.fromtimestamp(1_000_000_000, UTC).strftime(f"%Y-%m-%dT%H:%M:%S.00000000{1 + shifted}Z")
    container = row(BOT, Mounts=[{"Source": f"/elsewhere/{BOT}", "Destination": "/state"}])
    with FakeEngine() as manager, FakeEngine() as worker:
        manager.on("GET", "/info", Json(MANAGER))
        manager.on("GET", "/nodes", Json([node("m1", "manager"), node("w1")]))
        manager.on("GET", "/tasks", Json([task("m1", 0)]))
        worker.on("GET", "/info", lambda _: Json({**engine("w1").info, "SystemTime": nine_seconds_ago()}))
        worker.on("GET", "/containers/json", Json([container]))
        worker.on("HEAD", "/containers/*/archive", Raw(headers={PATH_STAT: stat_header(seen)}))
        found = check(
            manager.url,
            node_engines={"id-w1": worker.url},
            shared_state=RootDirectory(tmp_path, Path("/elsewhere")),
        )
    names = ["swarm", "managers", "bots on managers", "nodes", "node versions", "node engines", "no-new-privileges"]
    assert [*names, "cgroup namespaces", "node clocks", "shared storage"] == list(found)
    # At least so much: the machine may stand still for a while meanwhile.
    assert re.search(r"w1's is -(9\.0|[3-8]\.\d) s off", found["node clocks"].detail)
    assert verdict is found["shared storage"].verdict


def nine_seconds_ago() -> str:
    return (datetime.now(UTC) - timedelta(seconds=9)).isoformat()


def stat_header(moment: str) -> str:
    return base64.b64encode(json.dumps({"name": BOT, "mtime": moment}).encode()).decode()
