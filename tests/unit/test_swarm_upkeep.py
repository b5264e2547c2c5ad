"""What is written on the services of a swarm without a call: restarts, and the ends of changes nobody has ended."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pytest

from container_manager.backends.swarm import bot_services, left_containers, records, upkeep
from container_manager.backends.swarm.bot_services import BotServices
from container_manager.backends.swarm.left_containers import LeftContainers
from container_manager.backends.swarm.overdue import PATIENCE_SECONDS, Overdue
from container_manager.backends.swarm.records import Phase, Run, last_run_of, left_on, phase_of, replicas_of
from container_manager.backends.swarm.runs import Runs
from container_manager.backends.swarm.source import SwarmSource
from container_manager.backends.swarm.starts import Starts
from container_manager.backends.swarm.status import status_of
from container_manager.backends.swarm.task_watch import TaskWatch
from container_manager.backends.swarm.upkeep import Upkeep, is_due
from container_manager.errors import EngineUnavailableError
from tests.support.scripted_swarm import ScriptedSwarm
from tests.support.virtual_loop import run
from tests.unit.swarm_documents import NODES, ended, service, spec, task

Json = dict[str, Any]

STARTED = records.confirmed(records.started(spec(), 0))
REJECTED = task("rejected", 1, status={"Err": "No such image: registry.test/bot:1"})


class Manager:
    """In place of a ``SwarmClient``: one service, its tasks and the nodes."""

    def __init__(self, specification: Json, *tasks: Json, nodes: Mapping[str, Json] = NODES) -> None:
        self.service = service(specification)
        self.tasks = list(tasks)
        self.nodes = nodes
        self.meanwhile: list[Json] = []
        """What others make of the service, before the next updates."""
        self.updates = 0
        self.removed: list[str] = []
        self.left = LeftContainers(BotServices(self), {})  # type: ignore[arg-type]
        self._lock = threading.Lock()

    def list_tasks(self, *_: object, **__: object) -> list[Json]:
        return deepcopy(self.tasks)

    def list_nodes(self, *_: object) -> list[Json]:
        return list(self.nodes.values())

    def inspect_service(self, *_: object) -> Json:
        return deepcopy(self.service)

    def update_service(self, document: Json, specification: Json, _: str | None = None) -> bool:
        with self._lock:
            if self.meanwhile:
                self._take(self.meanwhile.pop())
            if document["Version"] != self.service["Version"]:
                return False
            self._take(specification)
            self.updates += 1
            return True

    def _take(self, specification: Json) -> None:
        version = {"Index": self.service["Version"]["Index"] + 1}
        self.service = {**self.service, "Version": version, "Spec": deepcopy(specification)}

    @property
    def due(self) -> bool:
        return is_due(self.service, self.tasks, self.nodes)

    def attend(self, seen: Json | None = None) -> None:
        services = BotServices(self)  # type: ignore[arg-type]
        runs = Runs(self, services, TaskWatch(self), {})  # type: ignore[arg-type]
        starts = Starts(services, runs, None, None, None, images=None)  # type: ignore[arg-type]
        removed = self.removed.append
        Upkeep(services, starts, self.left, lambda each, _: removed(each["ID"])).attend(seen or self.inspect_service())

    @property
    def shown(self) -> Any:
        return status_of(self.service, self.tasks, self.nodes)


def crashes(first: int, last: int) -> list[Json]:
    return [*(ended(1, second) for second in range(first, last)), task("running", last)]


def test_restarts_are_counted_before_the_swarm_forgets_them() -> None:
    manager = Manager(STARTED)
    for newest in range(1, 40):
        # A swarm keeps five tasks of a bot.
        manager.tasks = crashes(1, newest)[-5:]
        if manager.due:
            manager.attend()
        assert newest - 1 == manager.shown.restart_count
    assert manager.updates < 15


def test_nothing_is_due_of_a_bot_that_has_crashed_twice() -> None:
    assert not Manager(STARTED, *crashes(1, 3)).due


def test_two_services_count_each_restart_once() -> None:
    manager = Manager(STARTED, *crashes(1, 5))
    seen = manager.inspect_service()
    for _ in range(2):
        manager.attend(seen)
    assert (4, 1) == (manager.shown.restart_count, manager.updates)


@pytest.mark.parametrize(
    "change",
    [records.stopped(STARTED, Run(exit_code=3)), records.started(records.stopped(STARTED), 10**19)],
    ids=["stopped", "started again"],
)
def test_a_count_undoes_nothing_that_happens_meanwhile(change: Json) -> None:
    manager = Manager(STARTED, *crashes(1, 5))
    manager.meanwhile = [change]
    manager.attend()
    assert (change, 0) == (manager.service["Spec"], manager.updates)


def test_a_start_that_nobody_has_seen_fail_is_withdrawn() -> None:
    manager = Manager(records.started(spec(), 0), REJECTED, task("ready", 2))
    assert manager.due
    manager.attend()
    assert (0, Phase.STOPPED) == (replicas_of(manager.service), phase_of(manager.service))
    run = last_run_of(manager.service)
    assert run is not None
    assert "No such image" in run.error
    # The swarm ends what it has begun again.
    manager.tasks = [REJECTED]
    assert not manager.due


def test_a_bot_that_has_run_is_tried_again_and_again_where_it_cannot_be_started() -> None:
    manager = Manager(STARTED, REJECTED)
    assert not manager.due
    manager.attend()
    assert (1, 0) == (replicas_of(manager.service), manager.updates)


def test_a_start_that_nobody_has_seen_succeed_is_confirmed() -> None:
    manager = Manager(records.started(spec(), 0), task("running"))
    assert manager.due
    manager.attend()
    assert (1, Phase.STARTED) == (replicas_of(manager.service), phase_of(manager.service))


def test_a_start_that_waits_for_its_first_run_is_left_alone() -> None:
    assert not Manager(records.started(spec(), 0), task("preparing")).due


def test_a_run_that_a_lost_node_has_ended_says_nothing_of_a_start() -> None:
    started = records.started(spec(), 0)
    lost = task("shutdown")
    assert not Manager(started, lost).due
    assert not Manager(started, lost, task("preparing", 2)).due
    manager = Manager(started, lost, task("rejected", 2, status={"Err": "No such image"}))
    assert manager.due
    manager.attend()
    assert (0, Phase.STOPPED) == (replicas_of(manager.service), phase_of(manager.service))


LEFT = records.stopped(STARTED, left_on=["node2"])
READY = {**NODES, "node2": {**NODES["node2"], "Status": {"State": "ready"}}}


@pytest.fixture
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bot_services, "_NODES_SECONDS", 0.0)
    monkeypatch.setattr(left_containers, "_MISSED_SECONDS", 0.0)
    monkeypatch.setattr(left_containers, "grace_of", lambda _: 0.1)


@pytest.mark.usefixtures("_hurry")
def test_a_stop_that_nobody_has_ended_is_settled_once_its_node_is_back_for_the_grace_period() -> None:
    manager = Manager(LEFT)
    assert not manager.due
    manager.nodes = READY
    manager.tasks = [task("preparing", NodeID="node2", DesiredState="shutdown")]
    assert not manager.due
    for _ in range(2):
        manager.attend()
        time.sleep(0.15)
    assert {"node2"} == left_on(manager.service)
    manager.tasks = []
    assert manager.due
    for _ in range(2):
        manager.attend()
        assert (frozenset({"node2"}), "RUNNING") == (left_on(manager.service), manager.shown.state.name)
    time.sleep(0.15)
    manager.attend()
    assert (frozenset(), 0) == (left_on(manager.service), replicas_of(manager.service))
    # That node's later failures say nothing of the bot.
    manager.nodes = NODES
    assert ("EXITED", None) == (manager.shown.state.name, manager.shown.exit_code)


@pytest.mark.usefixtures("_hurry")
def test_what_a_stop_has_left_is_settled_also_when_the_bot_was_started_since() -> None:
    manager = Manager(records.confirmed(records.started(LEFT, 0)), *crashes(1, 5))
    assert {"node2"} == left_on(manager.service)
    # While that node is down, restarts are counted all the same.
    manager.attend()
    assert (frozenset({"node2"}), 4, 1) == (left_on(manager.service), manager.shown.restart_count, manager.updates)
    assert not manager.due
    manager.nodes = READY
    assert manager.due
    manager.attend()
    time.sleep(0.15)
    manager.attend()
    assert (frozenset(), 1) == (left_on(manager.service), replicas_of(manager.service))


@pytest.mark.usefixtures("_hurry")
def test_a_stop_that_has_just_begun_is_not_taken_for_an_older_one() -> None:
    manager = Manager(LEFT, nodes=READY)
    manager.attend()
    time.sleep(0.15)
    manager.meanwhile = [records.stopped(records.confirmed(records.started(LEFT, 0)), left_on=["node2"])]
    manager.attend()
    assert (frozenset({"node2"}), 0) == (left_on(manager.service), manager.updates)


@pytest.mark.parametrize(
    ("wanted", "due"), [("ready", True), ("running", True), ("shutdown", False), ("remove", False)]
)
def test_what_the_swarm_still_means_to_run_of_a_stopped_bot_is_ended_by_one_more_change(wanted: str, due: bool) -> None:
    """It was restarted in the moment of the stop."""
    manager = Manager(records.stopped(STARTED), ended(1, 1), task("ready", 2, DesiredState=wanted))
    before = manager.inspect_service()["Spec"]
    assert due is manager.due
    manager.attend()
    assert (int(due), before) == (manager.updates, manager.service["Spec"])
    manager.tasks = [ended(1, 1)]
    assert not manager.due


def test_a_bot_that_was_started_meanwhile_is_not_taken_for_one_that_was_revived() -> None:
    manager = Manager(records.stopped(STARTED), task("ready", 2))
    seen = manager.inspect_service()
    manager.meanwhile = [STARTED]
    manager.attend(seen)
    assert (1, 0) == (replicas_of(manager.service), manager.updates)


def test_a_start_that_comes_to_no_outcome_is_given_up_for_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "_LONGEST_SECONDS", 0.1)
    manager = Manager(records.started(spec(), 0), task("preparing"))
    manager.attend()
    assert Phase.STARTING is phase_of(manager.service)


def test_the_end_of_an_earlier_run_is_not_told_of_one_whose_end_nobody_has_seen() -> None:
    first = records.stopped(STARTED, Run(exit_code=7, finish_time_ns=4))
    again = records.stopped(records.confirmed(records.started(first, 0)))
    assert None is status_of(service(again), [], NODES).exit_code


def test_what_fails_stays_due() -> None:
    manager = Manager(STARTED, *crashes(1, 5))

    def away(*_: object, **__: object) -> None:
        raise EngineUnavailableError("away")

    manager.list_tasks = away  # type: ignore[assignment, method-assign]
    manager.attend()
    assert manager.due


def test_bots_are_attended_to_when_they_have_been_overdue_for_a_while_and_no_others() -> None:
    async def main() -> None:
        swarm, attended = ScriptedSwarm(), []

        async def attend(each: Json) -> None:
            attended.append(each["ID"])

        source = SwarmSource(swarm, Overdue(attend))  # type: ignore[arg-type]
        key = swarm.add("6f9619ff-8b86-4d11-b42d-00cf4fc964ff")
        swarm.run(key)  # starting, and its task runs
        other = swarm.add("16fd2706-8baf-433b-82eb-8c7fada847da")
        swarm.run(other, "preparing")
        async with source.subscribe() as notices:
            follower = asyncio.create_task(_consume(notices))
            await asyncio.sleep(PATIENCE_SECONDS - 0.1)
            assert [] == attended
            await asyncio.sleep(1.5)
            assert [key] == attended
            # It was attended to in vain, and is once more.
            await asyncio.sleep(PATIENCE_SECONDS + 1)
            assert [key, key] == attended
            swarm.update(key, **records.confirmed(swarm.services[key]["Spec"]))
            await asyncio.sleep(3 * PATIENCE_SECONDS)
            assert [key, key] == attended
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)

    run(main())


def test_bots_that_take_long_and_stay_due_do_not_keep_others_from_their_turn() -> None:
    async def main() -> None:
        swarm, attended = ScriptedSwarm(), set()

        async def attend(each: Json) -> None:
            attended.add(each["ID"])
            await asyncio.sleep(2)

        source = SwarmSource(swarm, Overdue(attend))  # type: ignore[arg-type]
        keys = {swarm.add(str(uuid.uuid4())) for _ in range(16)}
        for key in keys:
            swarm.run(key)
        async with source.subscribe() as notices:
            follower = asyncio.create_task(_consume(notices))
            await asyncio.sleep(PATIENCE_SECONDS + 16 * 2)
            assert keys == attended
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)

    run(main())


async def _consume(notices: Any) -> None:
    async for _ in notices:
        pass


def test_a_bot_that_is_to_be_removed_goes_once_nothing_of_it_may_run() -> None:
    manager = Manager(records.removing(STARTED, ["node2"]), task("running", NodeID="node2", DesiredState="shutdown"))
    assert not manager.due
    manager.tasks = []
    assert not manager.due
    manager.nodes = {**NODES, "node2": {**NODES["node2"], "Status": {"State": "ready"}}}
    assert manager.due
    manager.service["Spec"] = records.settled(manager.service["Spec"])
    manager.tasks = [task("running", DesiredState="shutdown")]
    assert not manager.due
    manager.attend()
    assert [] == manager.removed
    # A leader's engine may crash at the remove of a service while the swarm forgets its tasks.
    manager.tasks = [{**ended(143), "DesiredState": "remove"}]
    assert not manager.due
    manager.attend()
    assert [] == manager.removed
    manager.tasks = [ended(143)]
    assert manager.due
    manager.attend()
    assert ["service1"] == manager.removed
    # Nobody does that to a bot that was only stopped.
    manager.service["Spec"] = records.stopped(STARTED)
    assert not manager.due
