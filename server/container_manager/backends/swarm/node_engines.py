"""The nodes' own engines, as far as the operator names them: a swarm's managers have no figures and run no programs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from container_manager.backend import CallObserver
from container_manager.backend_provisioning import ActionResult, OnOutput
from container_manager.backends.bot_container import LABEL_MANAGED, LABEL_SWARM_SERVICE, bot_id_of
from container_manager.backends.engine_actions import EngineActions
from container_manager.backends.sampling import sample
from container_manager.backends.state_sizes import state_sizes
from container_manager.backends.swarm.bot_services import BotServices, of_node
from container_manager.backends.swarm.service_spec import BACKEND
from container_manager.backends.swarm.source import SwarmSource
from container_manager.backends.swarm.status import is_down, node_name
from container_manager.backends.swarm.tasks import container_of, newest_running
from container_manager.bot_directories import RootDirectory
from container_manager.deadline import Deadline
from container_manager.engine.async_client import AsyncEngineClient
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.swarm import SwarmClient
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import (
    ContainerManagerError,
    ContainerNotFoundError,
    InvalidStateError,
    NodeUnavailableError,
    NotSupportedByBackendError,
    reason_of,
)
from container_manager.model import DiskUse, RawSample, container_name

Json = dict[str, Any]

# The engine looks at every file of every writable layer and volume.
_DISK_SECONDS = 300.0

_log = logging.getLogger(__name__)


class _Running(NamedTuple):
    """Where a bot runs."""

    node_id: str
    container_id: str
    """The id that the node's own engine has given it."""


class NodeFigures:
    """Samples and disk use, on the event loop."""

    def __init__(self, engines: Mapping[str, AsyncEngineClient], source: SwarmSource) -> None:
        """``engines``: of nodes, by the nodes' host names or ids."""
        self._engines = engines
        self._source = source

    async def sample(self, container_id: str) -> RawSample | None:
        """As :meth:`container_manager.backend.Backend.sample`; ``None`` also for a bot whose node is not named."""
        running = _running(self._source.snapshot.tasks_of(container_id))
        if running is None:
            return None
        node = self._source.snapshot.nodes.documents.get(running.node_id, {})
        engine = of_node(self._engines, running.node_id, node_name(node))
        if engine is None:
            _log.debug("no sample of %s: no --node-engine names its node %s", container_id, node_name(node))
            return None
        return await sample(engine, running.container_id)

    async def disk_use(self, state_root: RootDirectory | None) -> dict[str, DiskUse]:
        """What bots' containers occupy on these nodes, by the ids of their services.

        ``state_root``: bots' states, on storage that this machine shares; ``None``: they are volumes on the nodes.
        """
        usages = await asyncio.gather(*(self._usage(name) for name in self._engines))
        layers: dict[str, int] = {}
        bots: dict[str, str] = {}
        volumes: dict[str, int] = {}
        for usage in usages:
            for service_id, bot_id, size in _layers(usage):
                layers[service_id] = layers.get(service_id, 0) + size
                bots[service_id] = bot_id
            volumes |= _volumes(usage)
        states = {bot_id: volumes.get(container_name(bot_id)) for bot_id in bots.values()}
        if state_root is not None:
            states = {**await state_sizes(state_root, [bot_id for bot_id in bots.values() if bot_id])}
        return {service_id: DiskUse(states.get(bots[service_id]), size) for service_id, size in layers.items()}

    async def _usage(self, name: str) -> Json:
        try:
            usage: Json = await self._engines[name].get_json("/system/df", timeout_seconds=_DISK_SECONDS)
        except (ContainerManagerError, EngineRejectedError) as exc:
            _log.info("the disk use on node %s could not be measured: %s", name, reason_of(exc))
            return {}
        return usage


class NodeActions:
    """An :class:`~container_manager.backend_provisioning.Actions`, usable from any number of threads."""

    def __init__(
        self,
        endpoints: Mapping[str, str],
        engine: SwarmClient,
        *,
        seconds: float,
        observer: CallObserver | None = None,
    ) -> None:
        """``endpoints``: of nodes' engines, by the nodes' host names or ids. ``seconds``: the time-out of a call.
        ``engine``: the manager.
        """
        self._nodes = {
            name: EngineActions(url, timeout_seconds=seconds, observer=observer) for name, url in endpoints.items()
        }
        self._engine = engine
        self._services = BotServices(engine)

    def close(self) -> None:
        """Close idle connections. No method may be called afterwards."""
        for actions in self._nodes.values():
            actions.close()

    def run(
        self,
        container_id: str,
        command: Sequence[str],
        *,
        stdin: bytes = b"",
        seconds: float,
        on_output: OnOutput | None = None,
    ) -> ActionResult:
        """As the interface says; raises :class:`NotSupportedByBackendError` for a bot whose node is not named."""
        running = _running(self._tasks(container_id))
        if running is None:
            raise InvalidStateError("no program can run in the container: it does not run", container_id=container_id)
        node = self._services.nodes(Deadline()).get(running.node_id, {})
        name = node_name(node) or running.node_id
        actions = of_node(self._nodes, running.node_id, name)
        if actions is None:
            raise NotSupportedByBackendError(
                f"a swarm's managers run no programs in containers, and the engine of the bot's node is not named: "
                f"the operator can name it with --node-engine {name}=URL",
                backend=BACKEND,
                node=name,
            )
        if node and is_down(node):
            raise NodeUnavailableError(f"the bot's node {name} cannot be reached", node=name)
        return actions.run(running.container_id, command, stdin=stdin, seconds=seconds, on_output=on_output)

    def _tasks(self, container_id: str) -> list[Json]:
        try:
            return self._engine.list_tasks(Deadline(), service=[container_id])
        except EngineRejectedError as exc:
            if exc.status == HTTPStatus.NOT_FOUND:
                raise ContainerNotFoundError("the container is gone", container_id=container_id) from exc
            raise engine_error(exc) from exc


def _running(tasks: Sequence[Json]) -> _Running | None:
    """Where the newest of the tasks runs; ``None``: none does."""
    task = newest_running(tasks)
    return None if task is None else _Running(task.get("NodeID", ""), container_of(task))


def _layers(usage: Json) -> Iterator[tuple[str, str, int]]:
    """The service, the bot and the size of each container of a bot on a node (Docker Engine API, ``/system/df``)."""
    for row in usage.get("Containers") or ():
        labels = row.get("Labels") or {}
        if labels.get(LABEL_MANAGED) == "true" and LABEL_SWARM_SERVICE in labels:
            # The engine leaves out what is zero.
            yield labels[LABEL_SWARM_SERVICE], bot_id_of(labels), row.get("SizeRw") or 0


def _volumes(usage: Json) -> dict[str, int]:
    """The sizes of a node's volumes, by their names, as far as they are known."""
    sizes = {row["Name"]: (row.get("UsageData") or {}).get("Size", -1) for row in usage.get("Volumes") or ()}
    return {name: size for name, size in sizes.items() if size >= 0}
