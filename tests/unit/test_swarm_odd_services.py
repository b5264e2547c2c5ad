"""Conformance 12 and 15: services that somebody made or changed by hand are left alone, and no list fails for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from container_manager.backends.swarm import records
from container_manager.backends.swarm.bot_services import BotServices
from container_manager.backends.swarm.source import SwarmSource
from container_manager.backends.swarm.upkeep import is_due
from container_manager.deadline import Deadline
from container_manager.model import container_name
from container_manager.rpc.manager_codec import status_to_proto
from container_manager.view.keeper import ViewKeeper
from tests.support.scripted_swarm import ScriptedSwarm
from tests.support.virtual_loop import run
from tests.unit.swarm_documents import BOT, NODES, ended, service, spec, task

Json = dict[str, Any]

OTHER = "16fd2706-8baf-433b-82eb-8c7fada847da"
PLUGIN: Json = {"PluginSpec": {}, "Runtime": "plugin"}
STARTED = records.confirmed(records.started(spec(), 0))
CRASHES = [*(ended(1, second) for second in range(1, 5)), task("running", 5)]


def recorded(swarm: ScriptedSwarm, label: str, **values: object) -> None:
    """The other bot has this record, which nothing of the service has written."""
    (key,) = (key for key, each in swarm.services.items() if container_name(OTHER) == each["Spec"]["Name"])
    labels = {**swarm.services[key]["Spec"]["Labels"], label: json.dumps(values)}
    swarm.update(
        key,
        Labels=labels,
        Mode={"Replicated": {}} if label == records.LABEL_LAST_RUN else {"Replicated": {"Replicas": 1}},
    )


def plugin(swarm: ScriptedSwarm) -> None:
    """A service with the other bot's labels is one of plugins, and has tasks; so has one that is gone."""
    for _ in range(2):
        key = swarm.add(OTHER, Name="plugins")
        swarm.tasks[swarm.run(key)]["Spec"] = PLUGIN
        swarm.update(key, TaskTemplate=PLUGIN)
    swarm.remove(key, tasks=False)
    # The engine matches tasks by the labels of their services.
    swarm.spoiled["/tasks"] = json.dumps(list(swarm.tasks.values())).encode()


ODD: dict[str, Callable[[ScriptedSwarm], object]] = {
    "plugins": plugin,
    "the code is text": lambda swarm: recorded(swarm, records.LABEL_LAST_RUN, exit_code="3", finish_time_ns=1),
    "a code that no status holds": lambda swarm: recorded(swarm, records.LABEL_LAST_RUN, exit_code=2**40),
    "a time that no status holds": lambda swarm: recorded(swarm, records.LABEL_LAST_RUN, finish_time_ns=2**100),
    "fewer than no restarts": lambda swarm: recorded(swarm, records.LABEL_LAST_RUN, restart_count=-1),
    "the count is text": lambda swarm: recorded(swarm, records.LABEL_RESTARTS, runs="3"),
    "the count is a list": lambda swarm: recorded(swarm, records.LABEL_RESTARTS, runs=[3], until_ns=[]),
}


@pytest.mark.parametrize("odd", ODD)
def test_beside_an_odd_service_the_others_are_listed_in_the_view_too(odd: str) -> None:
    async def main() -> None:
        swarm = ScriptedSwarm()
        swarm.run(swarm.add(BOT))
        swarm.add(OTHER)
        ODD[odd](swarm)
        source = SwarmSource(swarm)  # type: ignore[arg-type]
        keeper = ViewKeeper(source, lambda status: status_to_proto(status).SerializeToString())
        keeper.start()
        try:
            await keeper.in_sync()
            swarm.set_node("node1", "down")
            await asyncio.sleep(2)
            assert [True] == [
                entry.status.node_unreachable for entry in keeper.view.entries() if entry.status.bot_id == BOT
            ]
            assert {BOT, OTHER} == {entry.status.bot_id for entry in keeper.view.entries()}
            listed = [row.status for row in await source.list()]
            assert {BOT, OTHER} == {status.bot_id for status in listed}
            assert {entry.status.container_id for entry in keeper.view.entries()} == {
                status.container_id for status in listed
            }
        finally:
            await keeper.close()

    run(main())


def test_beside_an_odd_service_the_others_are_listed_while_there_is_no_view() -> None:
    class Manager:
        services = (service(), {**service(), "ID": "plugins", "Spec": {**spec(), "TaskTemplate": PLUGIN}})
        tasks = (task("running"), task("running", ServiceID="gone", Spec=PLUGIN), task("running", ServiceID="gone too"))

        def list_services(self, *_: object, **__: object) -> list[Json]:
            return list(self.services)

        def list_tasks(self, *_: object, **__: object) -> list[Json]:
            return list(self.tasks)

        def inspect_service(self, *_: object) -> None:
            pass

        def list_nodes(self, *_: object) -> list[Json]:
            return list(NODES.values())

    bots = BotServices(Manager())  # type: ignore[arg-type]
    assert ["service1", "gone too"] == [status.container_id for status in bots.all(Deadline())]
    left = bots.remains(BOT, Deadline())
    assert left is not None
    assert BOT == left.bot_id


@pytest.mark.parametrize(
    "changed", [{"Name": "by-hand"}, {"Mode": {"Global": {}}}, {"Name": "by-hand", "Mode": {"Global": {}}}]
)
def test_nothing_is_written_on_a_service_that_is_not_as_this_one_makes_them(changed: Json) -> None:
    tasks = [CRASHES, [task("running")]]
    assert is_due(service(STARTED), tasks[0], NODES)
    assert [False, False] == [is_due(service({**STARTED, **changed}), each, NODES) for each in tasks]
