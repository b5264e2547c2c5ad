"""How many calls to the engine each verb costs while the view is in sync, and what happens where the view is wrong."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import docker
import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.backend import CallObserver, Notice
from container_manager.backends.docker.backend import DockerBackend
from container_manager.backends.docker.container_source import ContainerSource
from container_manager.config import BackendConfig, ServerConfig
from container_manager_client import connect
from tests.support.bots import Bots
from tests.support.calls import FOREVER, Calls, fails_with
from tests.support.engine_proxy import EngineProxy
from tests.support.serving import LoopedServer, looped_server, running_server
from tests.support.waiting import wait_until

_CONTAINER_ID = re.compile("/containers/([0-9a-f]{64})")
VERBS = ("start", "stop", "restart", "remove")


class Counted:
    """A service in sync, and what it asks the engine."""

    def __init__(self, server: LoopedServer, proxy: EngineProxy, calls: Calls) -> None:
        self.calls = calls
        self._keeper = server.server.keeper
        self.proxy = proxy
        self.settle()

    def settle(self) -> None:
        """Wait until the view has looked into every event."""
        wait_until(lambda: self._keeper.view.in_sync and not self._keeper._refresher.pending(), "the view is settled")

    def by_name(self, bot_id: str) -> list[str]:
        """The inspections by the container's name so far."""
        return self.proxy.seen(f"/botmaker-{bot_id}/json")

    def by_id(self, container_id: str) -> list[str]:
        """The inspections by the container's id so far."""
        return self.proxy.seen(f"/{container_id}/json")

    def asked(self, call: Callable[[], object], bot_id: str) -> list[str]:
        """What the call makes the service ask, that of its events included; ids are left out.

        So are the API version, which each client asks for once, and what events of other tests' bots lead to.
        """
        self.settle()
        before, own = len(self.proxy.requests), self._container_ids(bot_id)
        call()
        self.settle()
        own |= self._container_ids(bot_id)
        requests = [line for line in self.proxy.requests[before:] if own.issuperset(_CONTAINER_ID.findall(line))]
        asked = [line.split("/containers/")[-1].split(" HTTP")[0] for line in requests]
        methods = [line.split()[0] for line in requests]
        return [
            f"{method} {path.split('?')[0].rpartition('/')[2] if '/' in path else path.split('?')[0][:6]}"
            for method, path in zip(methods, asked, strict=True)
            if "_ping" not in path and not path.endswith("version")
        ]

    def _container_ids(self, bot_id: str) -> set[str]:
        return {entry.status.container_id for entry in self._keeper.view.entries() if entry.status.bot_id == bot_id}


@pytest.fixture
def counted(service_config: BackendConfig, tmp_path: Path, session_dir: Path) -> Iterator[Counted]:
    with EngineProxy(service_config.docker_host, session_dir / "counting.sock") as proxy:
        config = replace(service_config, docker_host=proxy.url)
        with (
            looped_server(ServerConfig(service=config, listen=(f"unix://{session_dir}/counted/s.sock",))) as server,
            connect(server.server.addresses[0]) as channel,
        ):
            yield Counted(server, proxy, Calls(ContainerManagerStub(channel)))


def test_each_verb_costs_its_own_call_and_one_inspection(counted: Counted, bots: Bots) -> None:
    """No container is looked up by its name. Events that come late may lead to further inspections of it."""
    counted.calls.run(bots.new(), *FOREVER)  # the program of this image is remembered from here on
    bot_id, calls = bots.new(), counted.calls
    assert ["POST create", "GET json"] == counted.asked(lambda: calls.create(bot_id, *FOREVER), bot_id)
    for verb in ("start", "restart", "stop"):
        act = partial(getattr(calls, verb), bot_id, *[0] * (verb != "start"))
        asked = counted.asked(act, bot_id)
        assert 1 == asked.count(f"POST {verb}")
        assert {f"POST {verb}", "GET json"} == set(asked)
    (remove,) = (each for each in counted.asked(lambda: calls.remove(bot_id), bot_id) if each != "GET json")
    assert remove.startswith("DELETE")
    assert [] == counted.by_name(bot_id)
    assert calls.status(bot_id) is None


def test_events_that_come_during_a_change_cost_no_inspections_of_their_own(counted: Counted, bots: Bots) -> None:
    """Five changes back to back, while the view is still looking into the events of the one before.

    One inspection shows each change but the removal, one in a round may be for an event that comes late, and another
    one follows wherever a change takes half a second. If each event led to one, there would be nine: the engine
    announces up to five steps of a change.
    """
    calls = counted.calls
    calls.run(bots.new(), *FOREVER)  # the program of this image is remembered from here on
    counted.settle()
    inspections = []
    for _ in range(5):
        bot_id, begun = bots.new(), time.monotonic()
        container_id = calls.create(bot_id, *FOREVER)
        calls.start(bot_id)
        calls.restart(bot_id, 0)
        calls.stop(bot_id, 0)
        calls.remove(bot_id, 0)
        counted.settle()
        found = len(counted.by_id(container_id)) + len(counted.by_name(bot_id))
        inspections.append(found - (time.monotonic() - begun) // 0.5)
    assert median(inspections) <= 5, inspections


def test_a_running_container_is_removed_in_two_calls(counted: Counted, bots: Bots) -> None:
    bot_id, calls = bots.new(), counted.calls
    calls.run(bot_id, *FOREVER)
    first, *others = counted.asked(lambda: calls.remove(bot_id, 0), bot_id)
    assert "POST stop" == first
    assert 1 == len([each for each in others if each.startswith("DELETE")])


@pytest.mark.parametrize("verb", ["stop", "remove"])
def test_what_ends_a_bot_needs_no_look_up_while_an_event_is_looked_into(
    counted: Counted, bots: Bots, verb: str
) -> None:
    """Unless that is a rename, the container is the right one, and its state does not matter."""
    bot_id, calls = bots.new(), counted.calls
    container_id = calls.run(bot_id, *FOREVER)
    counted.settle()
    before = len(counted.by_id(container_id))
    counted.proxy.hang(f"/{container_id}/json")
    bots.engine.api.pause(container_id)
    bots.engine.api.unpause(container_id)
    wait_until(lambda: len(counted.by_id(container_id)) > before, "the event leads to an inspection")
    with ThreadPoolExecutor(1) as pool:
        ending = pool.submit(getattr(calls, verb), bot_id, 0)
        wait_until(lambda: ending.done() or counted.proxy.seen(f"/{container_id}/stop"), "the engine is asked")
        counted.proxy.mend()
        ending.result()
    assert [] == counted.by_name(bot_id)


class DeafSource(ContainerSource):
    """Hears of nothing that happens on the engine."""

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[AsyncIterator[Notice]]:
        async def silence() -> AsyncIterator[Notice]:
            await asyncio.Event().wait()
            yield Notice("", gone=False, managed=False)

        yield silence()


class DeafBackend(DockerBackend):
    """One whose view is right about what this service does, and wrong about all that others do."""

    def __init__(self, config: BackendConfig, observer: CallObserver | None = None) -> None:
        super().__init__(config, observer)
        self.source = DeafSource(self._engine)


@pytest.fixture
def deaf(service_config: BackendConfig, session_dir: Path) -> Iterator[Calls]:
    config = ServerConfig(service=service_config, listen=(f"unix://{session_dir}/deaf/s.sock",))
    with (
        running_server(config, backend=partial(DeafBackend, service_config)) as addresses,
        connect(addresses[0]) as channel,
    ):
        calls = Calls(ContainerManagerStub(channel))
        calls.list()
        yield calls


def made_by_hand(bots: Bots, image: str, bot_id: str, *, managed: bool, start: bool = True) -> str:
    """A container under the bot's name, beside the service; its id."""
    labels = {"botmaker.managed": "true"} if managed else {}
    container = bots.engine.containers.create(
        image,
        list(FOREVER),
        name=f"botmaker-{bot_id}",
        labels={"botmaker.bot-id": bot_id, **labels},
        network_mode="none",
        init=True,
    )
    if start:
        container.start()
    return container.id


@pytest.mark.parametrize("verb", VERBS)
def test_a_container_made_anew_behind_the_views_back_is_the_one_that_is_acted_on(
    deaf: Calls, bots: Bots, test_image: str, verb: str
) -> None:
    bot_id = bots.new()
    former = deaf.run(bot_id, *FOREVER)
    bots.engine.api.remove_container(former, force=True)
    remade = made_by_hand(bots, test_image, bot_id, managed=True, start=verb != "start")
    before = bots.inspect(bot_id)["State"]["StartedAt"]
    getattr(deaf, verb)(bot_id, *[0] * (verb != "start"))
    status = deaf.status(bot_id)
    if verb == "remove":
        assert (None, []) == (status, bots.containers())
        return
    assert status is not None
    assert remade == status.container_id
    assert (pb.CONTAINER_STATE_EXITED if verb == "stop" else pb.CONTAINER_STATE_RUNNING) == status.state
    assert (verb == "stop") == (before == bots.inspect(bot_id)["State"]["StartedAt"])


@pytest.mark.parametrize("verb", [*VERBS, "create"])
def test_a_foreign_container_that_took_the_name_behind_the_views_back_is_never_touched(
    deaf: Calls, bots: Bots, test_image: str, verb: str
) -> None:
    bot_id = bots.new()
    if verb != "create":
        bots.engine.api.remove_container(deaf.run(bot_id, *FOREVER), force=True)
    made_by_hand(bots, test_image, bot_id, managed=False)
    before = bots.inspect(bot_id)
    with fails_with("FAILED_PRECONDITION", "NAME_IN_USE_UNMANAGED"):
        getattr(deaf, verb)(bot_id, *(FOREVER if verb == "create" else ()))
    assert before == bots.inspect(bot_id)
    assert deaf.status(bot_id) is None


@pytest.mark.parametrize("verb", ["start", "restart"])
def test_a_container_that_was_removed_behind_the_views_back_cannot_be_started(
    deaf: Calls, bots: Bots, verb: str
) -> None:
    bot_id = bots.new()
    bots.engine.api.remove_container(deaf.create(bot_id, *FOREVER), force=True)
    with fails_with("NOT_FOUND", "CONTAINER_NOT_FOUND"):
        getattr(deaf, verb)(bot_id)
    assert deaf.status(bot_id) is None


def test_a_container_made_behind_the_views_back_is_an_obstacle_to_a_create(
    deaf: Calls, bots: Bots, test_image: str
) -> None:
    bot_id = bots.new()
    container_id = made_by_hand(bots, test_image, bot_id, managed=True)
    with fails_with("ALREADY_EXISTS", "CONTAINER_ALREADY_EXISTS") as caught:
        deaf.create(bot_id, *FOREVER)
    assert container_id == caught[0].metadata["container_id"]
    status = deaf.status(bot_id)
    assert status is not None
    assert container_id == status.container_id


def test_a_container_that_was_started_behind_the_views_back_has_its_grace_period_before_it_is_removed(
    deaf: Calls, bots: Bots, engine: docker.DockerClient
) -> None:
    bot_id = bots.new()
    container_id = deaf.create(bot_id, *FOREVER)
    engine.api.start(container_id)
    events = engine.api.events(filters={"container": container_id}, decode=True)
    deaf.remove(bot_id, 30)
    seen = next(event for event in events if event["Action"] in ("kill", "destroy"))
    events.close()
    assert ("kill", "15") == (seen["Action"], seen["Actor"]["Attributes"]["signal"])
    assert deaf.status(bot_id) is None
