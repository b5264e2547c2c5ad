"""Decides whether containers that the swarm has forgotten have ended.

A swarm forgets a task that is to end as soon as its service changes again, or the managers elect a leader, although the
task's container may still have its grace period, or run on a node that is cut off. Such a container has ended when

    the engine of its node has none of the service that runs, where the operator has named that engine; or else
    its node has been ready for the grace period and as long as the managers may take to miss a node.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from container_manager.backends.bot_container import LABEL_SWARM_SERVICE
from container_manager.backends.swarm import records
from container_manager.backends.swarm.bot_services import BotServices, check_node, of_node
from container_manager.backends.swarm.records import left_on, replicas_of
from container_manager.backends.swarm.service_spec import grace_of
from container_manager.backends.swarm.status import node_name
from container_manager.backends.swarm.tasks import container_of, has_ended
from container_manager.deadline import Deadline
from container_manager.engine.async_client import AsyncEngineClient
from container_manager.engine.long_calls import LongCalls
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import (
    ContainerManagerError,
    EngineTimeoutError,
    EngineUnavailableError,
    NodeUnavailableError,
)
from container_manager.operation import Operation, Wait

Json = dict[str, Any]

END_SECONDS = 60.0
"""How long the end of a container may take, beyond its grace period."""
UNCERTAIN = "it is not certain that the bot has ended"
_MISSED_SECONDS = 15.0
"""After so long without a word from a node, the managers count it as down."""
_LAPSED_SECONDS = 10.0
"""After so long without a look, a node may have been down meanwhile."""
_ASK_SECONDS = 3.0
_PAUSE_SECONDS = 0.25


@dataclass
class _Search:
    """For what is left of one service on one node."""

    began: float
    looked: float
    """When somebody last looked."""
    running: Future[frozenset[str]] | None = None
    """What the node's engine is asked: the ids of the service's containers that run."""


class LeftContainers:
    """On the nodes of one swarm, for any number of threads.

    Methods raise :class:`NodeUnavailableError` while nothing is heard of a node; ``what`` is as of
    :meth:`BotServices.check_reachable`. Waits end with :class:`EngineTimeoutError`.
    """

    def __init__(self, services: BotServices, calls: Mapping[str, LongCalls]) -> None:
        """``calls``: to nodes' own engines, by the nodes' host names or ids."""
        self._services = services
        self._calls = calls
        self._lock = threading.Lock()
        self._searches: dict[tuple[str, str], _Search] = {}

    def settle(self, service: Json, bot_id: str, what: str, deadline: Deadline | None = None) -> Operation[None]:
        """Wait until nothing runs of what stops have left of the bot's service, and write that down on it.

        ``deadline``: after which that is not waited for.
        """

        def settled() -> bool:
            now = self._services.find(bot_id, Deadline())
            if now is None or now["ID"] != service["ID"] or not left_on(now):
                return True
            return self.is_settled(now, bot_id, what)

        return self._until(settled, grace_of(service["Spec"]["TaskTemplate"]), bot_id, deadline or Deadline())

    def is_settled(self, service: Json, bot_id: str, what: str) -> bool:
        """As :meth:`settle`, as far as it is known without waiting. Ask again after a moment."""
        nodes = left_on(service)
        self._check_reachable({(service["ID"], each) for each in nodes}, what, bot_id)
        tasks = self._services.tasks_of(service, Deadline())
        stops = replicas_of(service) == 0
        if stops and not all(map(has_ended, tasks)):
            return False
        # A bot that was started since may run on the same node.
        known = set() if stops else {container_of(task) for task in tasks}
        if not self._have_ended(service["ID"], nodes, grace_of(service["Spec"]["TaskTemplate"]), known):
            return False
        # Of the version that was looked at, or not at all.
        return service is self._services.change(
            service, lambda each: records.settled(each["Spec"]) if each is service else None, bot_id
        )

    def await_end(self, tasks: Sequence[Json], bot_id: str, what: str) -> Operation[None]:
        """Wait until no container runs of these tasks, whose service is gone."""

        def ended() -> bool:
            self._check_reachable({(task["ServiceID"], task["NodeID"]) for task in tasks}, what, bot_id)
            return all(self._have_ended(each["ServiceID"], [each["NodeID"]], grace_of(each["Spec"])) for each in tasks)

        grace_seconds = max((grace_of(task["Spec"]) for task in tasks), default=0)
        return self._until(ended, grace_seconds, bot_id, Deadline())

    def _check_reachable(self, keys: Collection[tuple[str, str]], what: str, bot_id: str) -> None:
        try:
            self._services.check_reachable({node_id for _, node_id in keys}, what, bot_id)
        except NodeUnavailableError:
            # The time that the nodes have been ready begins anew.
            with self._lock:
                for key in keys:
                    self._searches.pop(key, None)
            raise

    def _until(self, ended: Callable[[], bool], grace_seconds: int, bot_id: str, deadline: Deadline) -> Operation[None]:
        ends = time.monotonic() + END_SECONDS + _MISSED_SECONDS + grace_seconds
        while True:
            # The managers may elect a leader.
            with suppress(EngineUnavailableError, EngineTimeoutError):
                if ended():
                    return
            if time.monotonic() > ends:
                raise EngineTimeoutError(f"{UNCERTAIN}: it takes too long", bot_id=bot_id)
            yield Wait(seconds=_PAUSE_SECONDS, deadline=deadline)
            deadline.check()

    def _have_ended(
        self, service_id: str, node_ids: Collection[str], grace_seconds: int, known: Collection[str] = ()
    ) -> bool:
        """Whether no containers of the service run on these nodes, all of which are ready, but for those ``known``."""
        nodes = self._services.nodes(Deadline())
        # The containers of a node that has left the swarm are no longer its own.
        there = {(service_id, each): node_name(nodes[each]) for each in node_ids if each in nodes}
        with self._lock:
            ended = all(self._has_ended(key, name, grace_seconds, known) for key, name in there.items())
            if ended:
                for key in there:
                    self._searches.pop(key, None)
        return ended

    def _has_ended(self, key: tuple[str, str], name: str, grace_seconds: int, known: Collection[str]) -> bool:
        service_id, node_id = key
        search, now = self._searches.get(key), time.monotonic()
        if search is None or now - search.looked > _LAPSED_SECONDS:
            search = self._searches[key] = _Search(now, now)
        search.looked = now
        calls = of_node(self._calls, node_id, name)
        if calls is not None:
            if search.running is None:
                search.running = calls.submit(_running(calls.engine, node_id, service_id))
            if not search.running.done():
                return False
            answer, search.running = search.running, None
            # An engine that does not answer tells no more than one that is not named.
            with suppress(ContainerManagerError, EngineRejectedError):
                return answer.result() <= set(known)
        return now - search.began > grace_seconds + _MISSED_SECONDS


async def _running(engine: AsyncEngineClient, node_id: str, service_id: str) -> frozenset[str]:
    """The ids of the service's containers that run on a node. Raises an error if the engine is that of another node."""
    info = await engine.get_json("/info", timeout_seconds=_ASK_SECONDS)
    check_node(info, node_id)
    filters = json.dumps({"label": [f"{LABEL_SWARM_SERVICE}={service_id}"]})
    rows = await engine.get_json("/containers/json", {"filters": filters}, timeout_seconds=_ASK_SECONDS)
    return frozenset(row["Id"] for row in rows)
