"""Starts a bot's service, and sees each start through to its outcome.

A service is `starting` from the update that gives it a container until somebody has seen how the first run went. If
that run could not be started, the start is withdrawn (0 replicas); else the swarm would try again for ever. Whoever
finds a service still `starting` finishes that start: a repeated start, or the upkeep. The upkeep also records that the
first run was a success, so that no caller waits for that.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import uuid4

from container_manager.backends.swarm import records
from container_manager.backends.swarm.bot_services import BotServices
from container_manager.backends.swarm.records import (
    Phase,
    Run,
    counted_of,
    is_removing,
    phase_of,
    replicas_of,
    start_id_of,
)
from container_manager.backends.swarm.runs import Runs, StartFailed, StartNotKnown
from container_manager.backends.swarm.secrets import SwarmSecrets
from container_manager.backends.swarm.service_spec import with_secrets
from container_manager.backends.swarm.state_nodes import StateNodes
from container_manager.backends.swarm.status import pinned_node
from container_manager.backends.swarm.swarm_images import SwarmImages
from container_manager.backends.swarm.tasks import created_ns
from container_manager.bot_directories import RootDirectory, check_state_to_mount
from container_manager.deadline import Deadline
from container_manager.engine.error_meanings import start_error
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import (
    EngineTimeoutError,
    EngineUnavailableError,
    InvalidStateError,
    NodeUnavailableError,
    OperationCancelledError,
    OperationInProgressError,
)
from container_manager.operation import Operation

Json = dict[str, Any]

_SERVER_ERROR = 500
_RUNS_LATER = "it is not certain that the bot runs; it is started again when the node is back"
_BEGUN = (Phase.STARTING, Phase.STARTED)


class Starts:
    """Of the bots of one swarm, for any number of threads."""

    def __init__(
        self,
        services: BotServices,
        runs: Runs,
        secrets: SwarmSecrets,
        state_nodes: StateNodes,
        shared_states: RootDirectory | None,
        *,
        images: SwarmImages,
    ) -> None:
        self._services = services
        self._runs = runs
        self._secrets = secrets
        self._state_nodes = state_nodes
        self._shared_states = shared_states
        self._images = images

    def check(self, service: Json, bot_id: str) -> list[Json]:
        """The bot's secrets, as its service refers to them. Raises what keeps the bot from being started."""
        secrets = self._secrets.references(bot_id)
        if self._shared_states is not None:
            source = self._shared_states.source(bot_id)
            check_state_to_mount(self._shared_states, bot_id, lambda: _mounts(service, source))
        return list(secrets)

    def credentials(self, service: Json, deadline: Deadline) -> str | None:
        """What nodes pull the bot's image with by now. Takes as long as a credential helper, while the caller waits."""
        return self._images.current_credentials(service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"], deadline)

    def start(
        self, service: Json, bot_id: str, deadline: Deadline, credentials: Callable[[], str | None] | None = None
    ) -> Operation[str]:
        """Start the bot's service, unless it is started; its id. Raises what an engine's start does.

        Only the waits for credentials and for the first run end with ``deadline``. ``credentials`` returns those that
        :meth:`credentials` has told before; ``None``: it is asked.
        """
        tasks = self._services.tasks(service["Spec"]["Name"], Deadline())
        until_ns = max(map(created_ns, tasks), default=0)
        secrets, registry_auth = list[Json](), None
        if not _has_begun(service):
            secrets = self.check(service, bot_id)
            # Those of the create may have expired.
            registry_auth = credentials() if credentials is not None else self.credentials(service, deadline)
            if node_id := pinned_node(service):
                # Before there is a state.
                yield from self._state_nodes.keep(bot_id, node_id)
        start_id = uuid4().hex

        def start(document: Json) -> Json | None:
            check_stays(document, bot_id)
            if replicas_of(document) > 0:
                return None if _has_begun(document) else records.started(document["Spec"], until_ns, start_id)
            return records.started(with_secrets(document["Spec"], secrets), until_ns, start_id)

        service = self._services.change(service, start, bot_id, registry_auth)
        if not _has_begun(service):
            # Those that it was started with before.
            self._secrets.remove_unused(bot_id)
            yield from self._await_outcome(service, bot_id, until_ns, start_id, deadline)
        elif phase_of(service) is Phase.STARTING:
            until_ns, start_id = counted_of(service).until_ns, start_id_of(service)
            yield from self._await_outcome(service, bot_id, until_ns, start_id, deadline)
        elif node_id := pinned_node(service):
            # While the managers do not know, it counts as running.
            with suppress(EngineUnavailableError, EngineTimeoutError):
                self._services.check_reachable({node_id}, _RUNS_LATER, bot_id, deadline)
        return str(service["ID"])

    def see_through(self, service: Json, bot_id: str) -> Operation[None]:
        """Wait for the outcome of the start that has begun, and write it down. Raises what an engine's start does."""
        start_id = start_id_of(service)
        if (yield from self._await_outcome(service, bot_id, counted_of(service).until_ns, start_id, Deadline())):
            self._change_starting(service, bot_id, start_id, records.confirmed)

    def _await_outcome(
        self, service: Json, bot_id: str, until_ns: int, start_id: str, deadline: Deadline
    ) -> Operation[bool]:
        """Whether it is known that the bot has started; if not, the upkeep looks again."""
        try:
            is_image_checked = yield from self._runs.await_start(service, bot_id, until_ns, start_id, deadline)
        except StartNotKnown:
            return False
        except NodeUnavailableError:
            self._withdraw(service, bot_id, start_id, Run())
            raise
        except StartFailed as failure:
            self._withdraw(service, bot_id, start_id, failure.run)
            # The same error as that of an engine that rejects the start.
            rejected = EngineRejectedError(_SERVER_ERROR, failure.text)
            raise start_error(rejected, bot_id, self._shared_states) from failure
        except (EngineTimeoutError, OperationCancelledError, OperationInProgressError) as exc:
            # Its caller has left, or somebody else has changed the bot since.
            exc.start_sent = True
            raise
        if is_image_checked:
            # Its status depends on that.
            self._change_starting(service, bot_id, start_id, partial(records.confirmed, is_image_checked=True))
        return True

    def _withdraw(self, service: Json, bot_id: str, start_id: str, run: Run) -> None:
        """Keep the swarm from trying again."""
        self._change_starting(service, bot_id, start_id, partial(records.stopped, run=run))

    def _change_starting(self, service: Json, bot_id: str, start_id: str, change: Callable[[Json], Json]) -> None:
        """Change the service if the outcome of this start is still to be written down."""

        def changed(each: Json) -> Json | None:
            is_due = phase_of(each) is Phase.STARTING and start_id_of(each) == start_id
            return change(each["Spec"]) if is_due else None

        self._services.change_now(service, changed, bot_id)


def check_stays(service: Json, bot_id: str) -> None:
    """Raise :class:`InvalidStateError` for a bot that is being removed."""
    if is_removing(service["Spec"]):
        raise InvalidStateError("the bot is being removed; create it again when it is gone", bot_id=bot_id)


def _has_begun(service: Json) -> bool:
    """Whether a start has given it its container; one that was scaled by hand has it without a start."""
    return replicas_of(service) > 0 and phase_of(service) in _BEGUN


def _mounts(service: Json, source: str) -> bool:
    mounts = service["Spec"]["TaskTemplate"]["ContainerSpec"].get("Mounts") or ()
    return any(each.get("Source") == source for each in mounts)
