"""The operations on bots' containers, carried out on a Docker Swarm.

A bot's container is a service with the bot's name and labels, of 0 or 1 replicas; the swarm is the only truth.

    start     1 replica, and wait for the first run. If it fails to start, it is withdrawn (0 replicas) within the time
              after which the swarm would try again.
    stop      0 replicas, and wait until no task may run; then the end of the run is written on the service.
    restart   stop, then start: an update of a running service may run two containers (moby/swarmkit#3274).
    remove    stop; then the service is removed, and awaited until none of its tasks is left.

A stop or a remove returns only when it is certain. While the bot's node cannot be reached it raises
:class:`~container_manager.errors.NodeUnavailableError`, whose message says what becomes of it. The nodes on which
stops may have left containers are written on the service until the end of these is certain, and that the bot is to be
removed then: the upkeep carries that out, whoever is there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Any

from container_manager.backend import CallObserver, Created
from container_manager.backends.swarm import records
from container_manager.backends.swarm.bot_services import BotServices, not_found
from container_manager.backends.swarm.config_from_service import definition_of
from container_manager.backends.swarm.creation import ServiceCreator
from container_manager.backends.swarm.left_containers import UNCERTAIN, LeftContainers
from container_manager.backends.swarm.node_ending import NodeEnding
from container_manager.backends.swarm.placement import shared_states
from container_manager.backends.swarm.records import Phase, is_removing, last_run_of, left_on, phase_of, replicas_of
from container_manager.backends.swarm.runs import Runs
from container_manager.backends.swarm.secrets import SwarmSecrets
from container_manager.backends.swarm.service_spec import Weaker
from container_manager.backends.swarm.starts import Starts, check_stays
from container_manager.backends.swarm.state_nodes import StateNodes
from container_manager.backends.swarm.status import restart_count
from container_manager.backends.swarm.swarm_images import SwarmImages
from container_manager.backends.swarm.task_watch import TaskWatch
from container_manager.backends.swarm.tasks import given_up_nodes, nodes_of
from container_manager.backends.swarm.upkeep import Upkeep
from container_manager.config import BackendConfig, SwarmConfig
from container_manager.deadline import Deadline
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.long_calls import LongCalls
from container_manager.engine.swarm import SwarmClient
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import ContainerNotFoundError, NodeUnavailableError
from container_manager.model import ContainerConfig, ContainerDefinition, ContainerState, ContainerStatus, age
from container_manager.operation import Operation
from container_manager.validation import check_grace_seconds

Json = dict[str, Any]

_STOPS = f"{UNCERTAIN}; it ends when the node is back"
_RESTARTS = f"{UNCERTAIN}; it ends when the node is back, and has to be started then"
_REMOVES = "it is not certain that the bot is gone; it is removed when the node is back"
_NO_RESTART = "the bot cannot be restarted, and nothing has been changed"


class SwarmLifecycle:
    """A lifecycle for any number of threads."""

    def __init__(
        self,
        engine: SwarmClient,
        config: BackendConfig,
        swarm: SwarmConfig,
        secrets: SwarmSecrets,
        observer: CallObserver | None = None,
    ) -> None:
        """``secrets``: those that bots are created and started with; ``observer`` receives calls to nodes."""
        self._grace_seconds = check_grace_seconds(config.grace_seconds)
        seconds = config.engine_timeout_seconds
        self.engine = engine
        self.services = BotServices(self.engine)
        self.images = SwarmImages(self.engine, config)
        self.state_nodes = StateNodes(self.engine)
        self._secrets = secrets
        shared = shared_states(config, swarm)
        nodes_calls = {
            name: LongCalls(url, timeout_seconds=seconds, observer=observer) for name, url in swarm.node_engines.items()
        }
        self._runs = Runs(self.engine, self.services, TaskWatch(self.engine), nodes_calls)
        self._starts = Starts(self.services, self._runs, secrets, self.state_nodes, shared, images=self.images)
        self._creator = ServiceCreator(engine, self.services, self.images, config, swarm, references=secrets.references)
        accepts = Weaker.GRACE_PERIOD.value in swarm.allow_weaker
        self._ending = NodeEnding(self.services, nodes_calls, accepts_other=accepts)
        self._left = LeftContainers(self.services, nodes_calls)
        self.upkeep = Upkeep(self.services, self._starts, self._left, self._remove)

    def close(self) -> None:
        """End what goes on in the background. No method may be called afterwards."""
        self._creator.close()
        self._ending.close()

    @property
    def default_grace_seconds(self) -> int:
        return self._grace_seconds

    def remove_leftovers(self) -> None:
        """A swarm has nothing beside its services."""

    def ping(self, *, deadline: Deadline | None = None) -> None:
        """Return if the managers have a leader."""
        try:
            self.engine.list_nodes(deadline or Deadline())
        except EngineRejectedError as exc:
            raise engine_error(exc) from exc

    def create_container(
        self,
        bot_id: str,
        config: ContainerConfig,
        *,
        request_id: str = "",
        absent: bool = False,  # noqa: ARG002 - a name is looked up in any case
        image_id: str = "",
        state_mount: str = "",  # noqa: ARG002 - definitions name none
        deadline: Deadline | None = None,
    ) -> Operation[Created]:
        return self._creator.create(bot_id, config, request_id, deadline or Deadline(), image_id=image_id)

    def start_container(
        self,
        bot_id: str,
        *,
        known: ContainerStatus | None = None,  # noqa: ARG002 - a change needs the service's newest version
        deadline: Deadline | None = None,
    ) -> Operation[str]:
        deadline = deadline or Deadline()
        service = self.services.require(bot_id, deadline)
        check_stays(service, bot_id)
        if replicas_of(service) == 0 and left_on(service):
            # While the node is down, the bot may run twice, as it does when a network is cut.
            with suppress(NodeUnavailableError):
                yield from self._left.settle(service, bot_id, _STOPS, deadline)
        return (yield from self._starts.start(service, bot_id, deadline))

    def stop_container(
        self,
        bot_id: str,
        grace_seconds: int | None = None,
        *,
        known: ContainerStatus | None = None,  # noqa: ARG002
        deadline: Deadline | None = None,
    ) -> Operation[str]:
        service = self.services.find(bot_id, deadline or Deadline())
        if service is None:
            return ""
        yield from self._stop(service, bot_id, grace_seconds)
        return str(service["ID"])

    def restart_container(
        self,
        bot_id: str,
        grace_seconds: int | None = None,
        *,
        known: ContainerStatus | None = None,  # noqa: ARG002
        deadline: Deadline | None = None,
    ) -> Operation[str]:
        deadline = deadline or Deadline()
        service = self.services.require(bot_id, deadline)
        check_stays(service, bot_id)
        self._starts.check(service, bot_id)
        registry_auth = self._starts.credentials(service, deadline)  # a helper may take its time: the bot runs on
        tasks = self.services.tasks_of(service, Deadline())
        nodes = nodes_of(tasks) | given_up_nodes(tasks) | left_on(service)
        self.services.check_reachable(nodes, _NO_RESTART, bot_id)
        yield from self._stop(service, bot_id, grace_seconds, _RESTARTS)
        service = self.services.require(bot_id, Deadline())
        return (yield from self._starts.start(service, bot_id, deadline, lambda: registry_auth))

    def remove_container(
        self,
        bot_id: str,
        grace_seconds: int | None = None,
        *,
        known: ContainerStatus | None = None,  # noqa: ARG002
        deadline: Deadline | None = None,
    ) -> Operation[str]:
        deadline = deadline or Deadline()
        service = self.services.find(bot_id, deadline)
        if service is None:
            left = self.services.remains(bot_id, deadline)
            if left is None:
                return ""
            yield from self._await_gone(left.container_id, bot_id)
            return left.container_id
        yield from self._stop(service, bot_id, grace_seconds, _REMOVES, removes=True)
        yield from self._runs.await_forgotten(service, bot_id)
        self._remove(service, bot_id)
        yield from self._await_gone(service["ID"], bot_id)
        return str(service["ID"])

    def get_container_status(self, bot_id: str, *, deadline: Deadline | None = None) -> ContainerStatus | None:
        deadline = deadline or Deadline()
        service = self.services.find_shown(bot_id, deadline)
        if service is None:
            return self.services.remains(bot_id, deadline)
        return self.services.status(service, deadline)

    def require_container(self, bot_id: str, *, deadline: Deadline | None = None) -> ContainerStatus:
        deadline = deadline or Deadline()
        status = self.get_container_status(bot_id, deadline=deadline)
        if status is None:
            # Raises where a service that is not ours has the name.
            self.services.require(bot_id, deadline)
            raise not_found(bot_id)
        return status

    def get_container_config(self, bot_id: str, *, deadline: Deadline | None = None) -> ContainerDefinition:
        deadline = deadline or Deadline()
        service = self.services.require(bot_id, deadline)
        return definition_of(service, self.services.networks(service, deadline))

    def containers_of_bot(self, bot_id: str, *, deadline: Deadline | None = None) -> list[str]:
        return self.services.ids_of_bot(bot_id, deadline or Deadline())

    def list_managed_containers(
        self, states: Collection[ContainerState] = (), *, deadline: Deadline | None = None
    ) -> list[ContainerStatus]:
        found = self.services.all(deadline or Deadline())
        return sorted((each for each in found if not states or each.state in states), key=age)

    def _remove(self, service: Json, bot_id: str) -> None:
        """Remove a service of which nothing runs."""
        try:
            self.engine.remove_service(service["ID"])
        except EngineRejectedError as exc:
            raise engine_error(exc, bot_id) from exc
        self._secrets.remove_unused(bot_id)

    def _stop(
        self, service: Json, bot_id: str, grace_seconds: int | None, what: str = _STOPS, *, removes: bool = False
    ) -> Operation[None]:
        """``removes``: the bot is to be removed then, by whoever sees that it has ended."""
        tasks = self.services.tasks_of(service, Deadline())
        is_over = replicas_of(service) == 0 and not nodes_of(tasks)
        is_noted = not removes or is_removing(service["Spec"]) or not left_on(service)
        if is_over and is_noted:
            yield from self._left.settle(service, bot_id, what)
            return
        restarts = restart_count(service, tasks)
        ending = self._ending.of(tasks, grace_seconds, bot_id)
        if ending is not None:
            yield from ending.outlast()
            tasks = self.services.tasks_of(service, Deadline())
        given_up = given_up_nodes(tasks)
        live = nodes_of(tasks) | given_up
        try:
            service = self.services.change(service, lambda each: _stopped(each, live, removes=removes), bot_id)
        except ContainerNotFoundError:
            # Another service has removed it.
            return
        before = _left_before(service, tasks) | given_up
        run, unseen = yield from self._runs.await_end(service, tasks, bot_id, ending, restarts, what=what)
        left = before | nodes_of(unseen)
        if removes and not left:
            return

        def ended(document: Json) -> Json | None:
            known = run is not None and run.exit_code is not None
            # Somebody has started it again meanwhile, or has seen an end that was forgotten here.
            if replicas_of(document) or (last_run_of(document) is not None and not known):
                return None
            spec = document["Spec"]
            return records.settled(spec, left) if run is None else records.stopped(spec, run, left)

        self.services.change_now(service, ended, bot_id)
        if left:
            yield from self._left.settle(service, bot_id, what)

    def _await_gone(self, service_id: str, bot_id: str) -> Operation[None]:
        unseen = yield from self._runs.await_gone(service_id, bot_id, _REMOVES)
        yield from self._left.await_end(unseen, bot_id, _REMOVES)


def _stopped(service: Json, live: set[str], *, removes: bool) -> Json | None:
    """The specification of a bot that is to stop, or to be removed (``removes``); ``None``: it is as it is to be.

    ``live``: the nodes on which it may run.
    """
    spec, left = service["Spec"], live | left_on(service)
    if removes:
        return None if is_removing(spec) else records.removing(spec, left)
    if is_removing(spec) or (replicas_of(service) == 0 and phase_of(service) is Phase.STOPPED):
        # At another change, the swarm would forget what has not ended yet.
        return None
    return records.stopped(spec, left_on=left)


def _left_before(service: Json, tasks: Iterable[Json]) -> set[str]:
    """The nodes on which earlier stops may have left a container that is not one of these tasks."""
    return set(left_on(service)) - (nodes_of(tasks) if replicas_of(service) == 0 else set())
