"""Conformance 12 and 15 on a swarm: services that this one has not made are never touched, and fail no list."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import docker
import pytest
from docker.errors import NotFound

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager.backends.swarm.overdue import PATIENCE_SECONDS
from tests.support.calls import FOREVER, Calls
from tests.support.foreign import every_outcome
from tests.support.foreign_contract import CAPITALS, FORGERIES, Foreign, ForeignContract, fingerprint
from tests.support.lifecycle_contract import SomeBots
from tests.support.swarm_bots import SwarmBots
from tests.support.waiting import wait_until

Json = dict[str, Any]


class ForeignService:
    """A service that a test has made, with the states of its tasks."""

    def __init__(self, api: docker.APIClient, service_id: str) -> None:
        self.id = service_id
        self._api = api
        self.reload()
        self.name: str = self.attrs["Spec"]["Name"]

    def reload(self) -> None:
        """Read the document anew."""
        tasks = self._api.tasks(filters={"service": self.id})
        states = {task["ID"]: (task["Status"]["State"], task["DesiredState"]) for task in tasks}
        self.attrs: Json = {**self._api.inspect_service(self.id), "Tasks": states}

    def runs(self) -> bool:
        """Whether it has a task that runs, and no other."""
        self.reload()
        return {("running", "running")} == set(self.attrs["Tasks"].values())


@pytest.fixture
def foreign(bots: SwarmBots, swarm_image: str) -> Iterator[Callable[..., ForeignService]]:
    """Runs a service beside the service, by name and labels."""
    made: list[ForeignService] = []

    def run(name: str | None, labels: dict[str, str], mode: Json | None = None) -> ForeignService:
        container = {"Image": swarm_image, "Args": list(FOREVER), "Init": True, "StopGracePeriod": 0, "Labels": labels}
        template = {"ContainerSpec": container, "Networks": [{"Target": "bridge"}]}
        created = bots.api.create_service(
            template,
            name=name,
            labels=labels,
            mode=mode or {"Replicated": {"Replicas": 1}},
            endpoint_spec={"Mode": "dnsrr"},
        )
        made.append(ForeignService(bots.api, created["ID"]))
        wait_until(made[-1].runs, "it runs")
        return made[-1]

    yield run
    for each in made:
        with suppress(NotFound):
            bots.api.remove_service(each.id)


class TestForeign(ForeignContract):
    """With the fixtures of this directory."""

    @pytest.mark.parametrize("forgery", [each for each in FORGERIES if each != CAPITALS])
    def test_a_forged_container_is_shown_as_what_it_is_beside_the_bots_own_and_no_verb_acts_on_it(
        self, calls: Calls, observer: ContainerObserverStub, bots: SomeBots, foreign: Foreign, forgery: str
    ) -> None:
        super().test_a_forged_container_is_shown_as_what_it_is_beside_the_bots_own_and_no_verb_acts_on_it(
            calls, observer, bots, foreign, forgery
        )


def test_conformance_12_a_service_with_our_name_in_capitals_holds_the_name_and_is_never_touched(
    calls: Calls, observer: ContainerObserverStub, bots: SomeBots, foreign: Foreign
) -> None:
    bot_id = bots.new()
    name, labels = (make(bot_id) for make in FORGERIES[CAPITALS])
    service = foreign(name, labels)
    before = fingerprint(service)
    assert {
        "create": "NAME_IN_USE_UNMANAGED",
        "create with a request id": "NAME_IN_USE_UNMANAGED",
        "start": "CONTAINER_NOT_FOUND",
        "stop": "None",
        "restart": "CONTAINER_NOT_FOUND",
        "remove": "None",
        "logs": "CONTAINER_NOT_FOUND",
        "status": "None",
    } == every_outcome(calls, observer, bot_id)
    assert before == fingerprint(service)


def test_conformance_15_services_of_other_kinds_are_listed_beside_the_others_and_stay_as_they_are(
    bots: SwarmBots, calls: Calls, foreign: Callable[..., ForeignService]
) -> None:
    own, everywhere, thrice = bots.new(), bots.new(), bots.new()
    calls.create(own, *FOREVER)
    odd = [
        foreign(name, {"botmaker.managed": "true", "botmaker.bot-id": bot_id}, mode)
        for name, bot_id, mode in (
            (f"botmaker-{everywhere}", everywhere, {"Global": {}}),
            (f"else-{thrice}", thrice, {"Replicated": {"Replicas": 3}}),
        )
    ]
    before = [fingerprint(each) for each in odd]

    def listed() -> bool:
        return {
            own: pb.CONTAINER_STATE_CREATED,
            everywhere: pb.CONTAINER_STATE_RUNNING,
            thrice: pb.CONTAINER_STATE_RUNNING,
        } == {each.bot_id: each.state for each in calls.listed(bots.ids)}

    wait_until(listed, "all are listed")
    # What is due is done after that time.
    until = time.monotonic() + PATIENCE_SECONDS + 1
    wait_until(lambda: time.monotonic() > until, "the service has looked at them")
    assert listed()
    assert before == [fingerprint(each) for each in odd]
