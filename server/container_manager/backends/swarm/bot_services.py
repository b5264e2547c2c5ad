"""Finds bots' services and their tasks on a swarm, and changes services that others change at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any, TypeVar

from container_manager.backends.bot_container import LABEL_BOT_ID, LABEL_MANAGED
from container_manager.backends.swarm.records import is_removing
from container_manager.backends.swarm.snapshot import bot_status, by_service
from container_manager.backends.swarm.status import is_down, node_name, removed_status, status_of
from container_manager.deadline import Deadline
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.swarm import SwarmClient
from container_manager.engine.timestamps import time_ns
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import (
    ContainerManagerError,
    ContainerNameMismatchError,
    ContainerNotFoundError,
    EngineUnavailableError,
    NameInUseUnmanagedError,
    NodeUnavailableError,
)
from container_manager.model import ContainerStatus, container_name

Json = dict[str, Any]
T = TypeVar("T")

MANAGED = f"{LABEL_MANAGED}=true"
_NODES_SECONDS = 1.0
_MOST_ATTEMPTS = 20


class BotServices:
    """Of one swarm, for any number of threads. Methods raise the domain's errors."""

    def __init__(self, engine: SwarmClient) -> None:
        self._engine = engine
        self._nodes: tuple[float, Mapping[str, Json]] = (float("-inf"), {})
        """When they were asked for, and the nodes."""

    def find(self, bot_id: str, deadline: Deadline) -> Json | None:
        """The service that changes act on; ``None`` when the bot has none.

        Raises :class:`NameInUseUnmanagedError` when a service that is not ours has the bot's name, and
        :class:`ContainerNameMismatchError` when the bot has only services of other names.
        """
        # Between the two, another service may create it.
        service = self._named(bot_id, deadline) or self._newest(bot_id, deadline)
        if service is None:
            return None
        if (name := service["Spec"]["Name"]) != container_name(bot_id):
            message = f"the bot's service is named {name}, and a swarm renames none; remove it, and create the bot"
            raise ContainerNameMismatchError(message, bot_id=bot_id, container_id=service["ID"], name=name)
        if not _is_of(service, bot_id):
            raise _name_in_use(service, bot_id)
        return service

    def check_name(self, bot_id: str, deadline: Deadline) -> None:
        """Raise :class:`NameInUseUnmanagedError` if a service has the bot's name in capitals; a swarm ignores case."""
        try:
            services = self._engine.list_services(deadline)
        except EngineRejectedError as exc:
            raise engine_error(exc, bot_id) from exc
        for service in services:
            if service["Spec"]["Name"] != container_name(bot_id) == service["Spec"]["Name"].lower():
                raise _name_in_use(service, bot_id)

    def find_shown(self, bot_id: str, deadline: Deadline) -> Json | None:
        """The service that reads show, which may have another name; ``None``: there is none."""
        named = self._named(bot_id, deadline)
        return named if named is not None and _is_of(named, bot_id) else self._newest(bot_id, deadline)

    def require(self, bot_id: str, deadline: Deadline) -> Json:
        """As :meth:`find`; raises :class:`ContainerNotFoundError` for a bot that has none."""
        if (service := self.find(bot_id, deadline)) is None:
            raise not_found(bot_id)
        return service

    def tasks(self, name: str, deadline: Deadline) -> list[Json]:
        """The tasks of the services of this name, also of those that are gone."""
        try:
            return self._engine.list_tasks(deadline, name=[name])
        except EngineRejectedError as exc:
            raise engine_error(exc) from exc

    def tasks_of(self, service: Json, deadline: Deadline) -> list[Json]:
        """The service's tasks."""
        return [task for task in self.tasks(service["Spec"]["Name"], deadline) if task["ServiceID"] == service["ID"]]

    def nodes(self, deadline: Deadline) -> Mapping[str, Json]:
        """The nodes by their ids, as they were at most a second ago."""
        asked, nodes = self._nodes
        if time.monotonic() - asked <= _NODES_SECONDS:
            return nodes
        # Without a lock: nobody waits longer than their own deadline.
        asked = time.monotonic()
        try:
            nodes = {node["ID"]: node for node in self._engine.list_nodes(deadline)}
        except EngineRejectedError as exc:
            raise engine_error(exc) from exc
        self._nodes = asked, nodes
        return nodes

    def node_name(self, node_id: str) -> str:
        """A node's host name, or its id while that is all that is known."""
        try:
            node = self.nodes(Deadline(_NODES_SECONDS)).get(node_id, {})
        except ContainerManagerError:
            node = {}
        return node_name(node) or node_id

    def status(self, service: Json, deadline: Deadline) -> ContainerStatus:
        """The status of a bot with this service."""
        return status_of(service, self.tasks_of(service, deadline), self.nodes(deadline))

    def removed(self, bot_id: str, deadline: Deadline) -> ContainerStatus | None:
        """The status of a bot that is being removed; ``None``: nothing is left of one."""
        service = self.find_shown(bot_id, deadline)
        if service is None:
            return self.remains(bot_id, deadline)
        return self.status(service, deadline) if is_removing(service["Spec"]) else None

    def remains(self, bot_id: str, deadline: Deadline) -> ContainerStatus | None:
        """The status of a bot without a service, some of whose tasks are left; ``None``: none is."""
        tasks = [
            task
            for task in self.tasks(container_name(bot_id), deadline)
            if ((task["Spec"].get("ContainerSpec") or {}).get("Labels") or {}).get(LABEL_BOT_ID) == bot_id
        ]
        if tasks and (named := self._named(bot_id, deadline)) is not None:
            # It runs these itself, and is not ours.
            tasks = [task for task in tasks if task["ServiceID"] != named["ID"]]
        return removed_status(tasks, self.nodes(deadline)) if tasks else None

    def all(self, deadline: Deadline) -> list[ContainerStatus]:
        """The status of every bot with a service or with a task that is left of one."""
        services = self.of_all_bots(deadline)
        try:
            tasks = self._engine.list_tasks(deadline, label=[MANAGED])
        except EngineRejectedError as exc:
            raise engine_error(exc) from exc
        nodes, of_service = self.nodes(deadline), by_service(tasks)
        found = [bot_status(service, of_service.pop(service["ID"], []), nodes) for service in services]
        found += [bot_status(None, left, nodes) for left in of_service.values()]
        return [status for status in found if status is not None]

    def networks(self, service: Json, deadline: Deadline) -> dict[str, str]:
        """The names of a service's networks, by what the service calls them."""
        targets = [each.get("Target", "") for each in service["Spec"]["TaskTemplate"].get("Networks") or ()]
        try:
            found = {target: self._engine.inspect_network(target, deadline) for target in targets}
        except EngineRejectedError as exc:
            raise engine_error(exc) from exc
        return {target: network["Name"] for target, network in found.items() if network}

    def ids_of_bot(self, bot_id: str, deadline: Deadline) -> list[str]:
        """The ids of every service that has the bot's id or name, or of which a task is left."""
        named = self.find_shown(bot_id, deadline)
        left = self.remains(bot_id, deadline) if named is None else None
        found = {service["ID"] for service in self.of_bot(bot_id, deadline)}
        return sorted({*found, *([named["ID"]] if named else []), *([left.container_id] if left else [])})

    def of_all_bots(self, deadline: Deadline, bot_id: str = "") -> list[Json]:
        """Every service with our label. ``bot_id``: the bot that this is for, which errors name."""
        try:
            return self._engine.list_services(deadline, label=[MANAGED])
        except EngineRejectedError as exc:
            raise engine_error(exc, bot_id) from exc

    def of_bot(self, bot_id: str, deadline: Deadline) -> list[Json]:
        """Every service with the bot's label, whatever its name."""
        try:
            return self._engine.list_services(deadline, label=[MANAGED, f"{LABEL_BOT_ID}={bot_id}"])
        except EngineRejectedError as exc:
            raise engine_error(exc, bot_id) from exc

    def change(
        self, service: Json, change: Callable[[Json], Json | None], bot_id: str, registry_auth: str | None = None
    ) -> Json:
        """Give a service the specification that ``change`` makes of its document; the document it was made of.

        Where somebody else has changed the service meanwhile, it is read and ``change`` is called again.
        ``None``: there is nothing to change. ``registry_auth``: as of :meth:`SwarmClient.update_service`. Raises
        :class:`ContainerNotFoundError` if it is gone.
        """
        for _ in range(_MOST_ATTEMPTS):
            spec = change(service)
            try:
                if spec is None or self._engine.update_service(service, spec, registry_auth):
                    return service
                now = self._engine.inspect_service(service["ID"], Deadline())
            except EngineRejectedError as exc:
                if exc.status != HTTPStatus.NOT_FOUND or self.now(service, bot_id, Deadline()) is not None:
                    raise engine_error(exc, bot_id) from exc
                now = None
            if now is None:
                raise not_found(bot_id)
            service = now
        raise EngineUnavailableError("others keep changing the bot's service; try again later", bot_id=bot_id)

    def change_now(self, service: Json, change: Callable[[Json], Json | None], bot_id: str) -> None:
        """As :meth:`change`, of the service as it is by now; has no effect on one that is gone."""
        if (now := self.now(service, bot_id, Deadline())) is not None:
            with suppress(ContainerNotFoundError):
                self.change(now, change, bot_id)

    def now(self, service: Json, bot_id: str, deadline: Deadline) -> Json | None:
        """The service as it is by now; ``None``: it is gone."""
        try:
            return self._engine.inspect_service(service["ID"], deadline)
        except EngineRejectedError as exc:
            raise engine_error(exc, bot_id) from exc

    def check_reachable(
        self, node_ids: Collection[str], what: str, bot_id: str, deadline: Deadline | None = None
    ) -> None:
        """Raise :class:`NodeUnavailableError` if nothing is heard of one of the nodes.

        ``what``: what follows from that, and what becomes of the call. Raises :class:`EngineUnavailableError` while the
        managers do not know it, since they have just elected a leader.
        """
        if not node_ids:
            return
        nodes = self.nodes(deadline or Deadline())
        for node_id in node_ids:
            node = nodes.get(node_id)
            if node is not None and is_down(node):
                name = node_name(node) or node_id
                if node["Status"]["State"] == "unknown":
                    raise EngineUnavailableError(f"the swarm's new leader has not heard of node {name} yet")
                raise NodeUnavailableError(f"node {name} cannot be reached, so {what}", bot_id=bot_id, node=name)

    def _named(self, bot_id: str, deadline: Deadline) -> Json | None:
        try:
            return self._engine.inspect_service(container_name(bot_id), deadline)
        except EngineRejectedError as exc:
            raise engine_error(exc, bot_id) from exc

    def _newest(self, bot_id: str, deadline: Deadline) -> Json | None:
        return max(
            self.of_bot(bot_id, deadline),
            key=lambda each: (
                each["Spec"]["Name"] == container_name(bot_id),
                time_ns(each.get("CreatedAt")) or 0,
                each["ID"],
            ),
            default=None,
        )


def of_node(engines: Mapping[str, T], node_id: str, name: str) -> T | None:
    """A node's engine, by the node's id or else its host name; ``None``: the operator has not named it."""
    return engines.get(node_id) or engines.get(name)


def check_node(info: Json, node_id: str) -> None:
    """Raise :class:`EngineUnavailableError` unless this ``/info`` is that of the node's engine: names may be equal."""
    if (info.get("Swarm") or {}).get("NodeID") != node_id:
        message = f"the engine that --node-engine names for node {node_id} does not show that it is that node's"
        raise EngineUnavailableError(f"{message}; run the doctor")


def not_found(bot_id: str) -> ContainerNotFoundError:
    """The error for a bot that has no service."""
    return ContainerNotFoundError("the bot has no container; create one first", bot_id=bot_id)


def _is_of(service: Json, bot_id: str) -> bool:
    labels = service["Spec"].get("Labels") or {}
    return labels.get(LABEL_MANAGED) == "true" and labels.get(LABEL_BOT_ID) == bot_id


def _name_in_use(service: Json, bot_id: str) -> NameInUseUnmanagedError:
    return NameInUseUnmanagedError(
        f"the name {service['Spec']['Name']} is held by a service that this one did not make; "
        "rename or remove it by hand",
        bot_id=bot_id,
        container_id=service["ID"],
    )
