"""Ends a bot's container with another grace period than the swarm gives it.

A task keeps the grace period that it was created with. Only its node's own engine can end it sooner or later, where the
operator has named that engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from container_manager.backends.swarm import records
from container_manager.backends.swarm.bot_services import BotServices
from container_manager.backends.swarm.service_spec import not_supported
from container_manager.backends.swarm.status import may_run
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.long_calls import LongCalls
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.operation import GracePeriod, Operation

Json = dict[str, Any]

_SECOND_NS = 1_000_000_000
_SERVER_ERROR = 500


@dataclass(frozen=True)
class _Live:
    """A container that may run, on a node."""

    container_id: str
    node_id: str
    grace_seconds: int
    """The grace period that the swarm gives it."""


class NodeEnding:
    """Of the nodes of one swarm, for any number of threads."""

    def __init__(self, services: BotServices, calls: Mapping[str, LongCalls], *, accepts_other: bool) -> None:
        """``calls``: to nodes' own engines, by the nodes' host names. ``accepts_other``: the operator accepts that a
        container keeps its own grace period where its node has none.
        """
        self._services = services
        self._calls = calls
        self._accepts_other = accepts_other

    def close(self) -> None:
        """Close all connections."""
        for calls in self._calls.values():
            calls.close()

    def end(self, service: Json, tasks: Sequence[Json], grace_seconds: int | None, bot_id: str) -> Operation[None]:
        """End the service's container, if it runs and has another grace period; ``None``: any will do.

        Raises :class:`NotSupportedByBackendError` where its node's engine is not named, before anything is changed.
        """
        live = _live(tasks)
        if live is None or grace_seconds is None or grace_seconds == live.grace_seconds:
            return
        self._services.check_reachable({live.node_id}, "the bot cannot be stopped now", bot_id)
        name = self._services.node_name(live.node_id)
        calls = self._calls.get(name) or self._calls.get(live.node_id)
        if calls is None:
            if self._accepts_other:
                return
            raise not_supported(
                "grace_period",
                f"the bot's grace period is {live.grace_seconds} s, and only its node's own engine could give another: "
                f"name it with --node-engine {name}=URL, or accept it with --allow-weaker grace-period",
            )
        if grace_seconds < live.grace_seconds:
            # Else the swarm would start it again, should this process be killed now.
            self._services.change(service, lambda document: records.stopped(document["Spec"]), bot_id)
        stopped = calls.stop_container(live.container_id, grace_seconds)
        wait = GracePeriod(
            future=stopped, grace_seconds=grace_seconds, kill=lambda: calls.kill_container(live.container_id)
        )
        while not stopped.done():
            yield wait
        try:
            stopped.result()
        except EngineRejectedError as exc:
            # Below, it has ended meanwhile.
            if exc.status >= _SERVER_ERROR:
                raise engine_error(exc, bot_id) from exc


def _live(tasks: Sequence[Json]) -> _Live | None:
    """The container that may run; ``None``: there is none."""
    for task in tasks:
        container_id = (task["Status"].get("ContainerStatus") or {}).get("ContainerID")
        if may_run(task) and container_id:
            return _Live(container_id, task.get("NodeID", ""), _grace(task["Spec"]["ContainerSpec"]))
    return None


def own_grace(service: Json) -> int:
    """The grace period that the swarm gives the service's next container, in seconds."""
    return _grace(service["Spec"]["TaskTemplate"]["ContainerSpec"])


def _grace(container: Json) -> int:
    return round((container.get("StopGracePeriod") or 0) / _SECOND_NS)
