"""Creates a bot's service on a swarm. A failed or cancelled create is undone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from http import HTTPStatus
from typing import Any

from container_manager.backend import Created
from container_manager.backends.bot_container import LABEL_CREATE_ID, LABEL_REQUEST_ID
from container_manager.backends.given_up_creates import GivenUpCreates
from container_manager.backends.state_directories import StateDirectories
from container_manager.backends.swarm import placement
from container_manager.backends.swarm.bot_services import BotServices
from container_manager.backends.swarm.privileges import check_privileges
from container_manager.backends.swarm.records import LABEL_PHASE, Phase, is_removing, phase_of, removing, replicas_of
from container_manager.backends.swarm.service_spec import (
    Placement,
    Weaker,
    refuse_oversized,
    refuse_weaker,
    service_body,
)
from container_manager.backends.swarm.state_nodes import StateNodes
from container_manager.backends.swarm.status import status_of
from container_manager.backends.swarm.swarm_images import SwarmImages
from container_manager.config import BackendConfig, SwarmConfig
from container_manager.deadline import Deadline
from container_manager.engine.error_meanings import create_error, engine_error
from container_manager.engine.swarm import SwarmClient
from container_manager.engine.transport_errors import EngineRejectedError, was_not_sent
from container_manager.errors import (
    ContainerAlreadyExistsError,
    FieldViolation,
    InvalidConfigError,
    InvalidStateError,
    NodeUnavailableError,
)
from container_manager.model import ContainerConfig, ContainerState
from container_manager.operation import Operation, Wait
from container_manager.validation import check_grace_seconds

Json = dict[str, Any]
References = Callable[[str], Sequence[Json]]
"""The secrets of a bot, as a service names them."""

_NAME_WAIT_SECONDS = 3.0
_NAME_POLL_SECONDS = 0.1


class ServiceCreator:
    """Carries out create, for any number of threads."""

    def __init__(
        self,
        engine: SwarmClient,
        services: BotServices,
        images: SwarmImages,
        config: BackendConfig,
        swarm: SwarmConfig,
        *,
        references: References,
    ) -> None:
        self._engine = engine
        self._services = services
        self._images = images
        self._config = config
        self._placing = placement.Placing(swarm.placement)
        self._node_choice = placement.NodeChoice()
        self._accepted = frozenset(map(Weaker, swarm.allow_weaker))
        self._references = references
        self._stop_seconds = check_grace_seconds(config.grace_seconds)
        self._given_up = GivenUpCreates(_CreatedServices(engine, services))
        shared = placement.shared_states(config, swarm)
        self._states = None if shared is None else StateDirectories(shared, config.bot_user)

    def close(self) -> None:
        """End what goes on in the background."""
        self._given_up.close()

    def create(
        self, bot_id: str, config: ContainerConfig, request_id: str, deadline: Deadline, *, image_id: str = ""
    ) -> Operation[Created]:
        """The bot's new service, or the one that an earlier call with this ``request_id`` made.

        ``image_id``: the digest or the id of the image to take.
        """
        requested = config.image or self._config.default_image
        if not image_id:
            self._images.allowed(config.image)
        if existing := self._existing(bot_id, request_id, deadline):
            return Created(existing)
        if image_id:
            # The bot had such a service: that its operator allows less by now keeps no upgrade from putting it back.
            image = self._images.pinned(config.image, image_id)
        else:
            refuse_weaker(config, self._accepted)
            refuse_oversized(bot_id, config)
            check_privileges(self._services.nodes(deadline).values(), self._accepted)
            self._check_network(config.network, deadline)
            image = yield from self._images.resolve(requested, deadline)
        yield from self._await_name(bot_id, deadline)
        with self._states.prepared(bot_id) if self._states is not None else nullcontext():
            return self._create_prepared(bot_id, config, image, request_id, deadline)

    def _create_prepared(
        self, bot_id: str, config: ContainerConfig, image: str, request_id: str, deadline: Deadline
    ) -> Created:
        requested = config.image or self._config.default_image
        create_id = self._given_up.open()
        try:
            with self._placed(bot_id, deadline) as placed:
                body = service_body(
                    bot_id,
                    config,
                    image=image,
                    requested_image=requested,
                    request_id=request_id,
                    create_id=create_id,
                    stop_seconds=self._stop_seconds,
                    placement=placed,
                    secrets=self._references(bot_id),
                )
                registry_auth = self._images.current_credentials(image, deadline)
                return self._make(bot_id, body, request_id, registry_auth, deadline)
        finally:
            self._given_up.finish(create_id)

    def _make(self, bot_id: str, body: Json, request_id: str, registry_auth: str | None, deadline: Deadline) -> Created:
        create_id = body["Labels"][LABEL_CREATE_ID]
        deadline.check()
        try:
            service_id = self._engine.create_service(body, registry_auth)
        except EngineRejectedError as exc:
            if exc.status == HTTPStatus.CONFLICT:
                if existing := self._existing(bot_id, request_id, deadline):
                    return Created(existing)
                self._services.check_name(bot_id, deadline)
            # A manager also answers so when it has lost the leader, which may still carry it out.
            if exc.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                self._given_up.give_up(create_id)
            raise create_error(exc, bot_id) from exc
        except BaseException as exc:
            if not was_not_sent(exc):
                self._given_up.give_up(create_id)
            raise
        try:
            service = self._engine.inspect_service(service_id, deadline)
            status = None if service is None else status_of(service, [], self._services.nodes(deadline))
            deadline.commit()
        except BaseException as exc:
            self._given_up.undo(create_id, service_id)
            if isinstance(exc, EngineRejectedError):
                raise engine_error(exc, bot_id) from exc
            raise
        return Created(service_id, status)

    def _existing(self, bot_id: str, request_id: str, deadline: Deadline) -> str | None:
        service = self._services.find(bot_id, deadline)
        if service is None or is_removing(service["Spec"]):
            # What is being removed is awaited with its name.
            return None
        service_id: str = service["ID"]
        labels = service["Spec"].get("Labels") or {}
        create_id = labels.get(LABEL_CREATE_ID) or ""
        if request_id and labels.get(LABEL_REQUEST_ID) == request_id:
            if not self._given_up.adopt(create_id):
                return None
            if self._states is not None:
                self._states.keep(bot_id)
            return service_id
        if self._given_up.is_given_up(create_id):
            self._given_up.undo(create_id, service_id)
            # One that was started since stays.
            if self._given_up.is_given_up(create_id) or self._services.find(bot_id, deadline) is None:
                return None
        raise ContainerAlreadyExistsError(
            f"the bot has the container {service_id[:12]} already; remove that one first",
            bot_id=bot_id,
            container_id=service_id,
        )

    def _await_name(self, bot_id: str, deadline: Deadline) -> Operation[None]:
        """Wait until nothing is left of a service that was removed: the bot would run twice."""
        patience = Deadline(_NAME_WAIT_SECONDS)
        while (left := self._services.removed(bot_id, deadline)) is not None:
            if patience.remaining() == 0:
                message = "the bot's former container is still being removed; try again later"
                if left.node_unreachable:
                    raise NodeUnavailableError(
                        f"{message}: its node {left.node} cannot be reached", bot_id=bot_id, node=left.node
                    )
                raise InvalidStateError(message, bot_id=bot_id)
            yield Wait(seconds=_NAME_POLL_SECONDS, deadline=deadline)
            deadline.check()

    @contextmanager
    def _placed(self, bot_id: str, deadline: Deadline) -> Iterator[Placement]:
        root, target = self._config.state_root, self._config.state_mount
        if self._placing is placement.Placing.FLOATING:
            yield placement.floating(None if root is None else root.source(bot_id), target)
            return
        nodes = StateNodes(self._engine).all(deadline)
        with self._node_choice.node_for(bot_id, nodes, lambda: self._services.of_all_bots(deadline, bot_id)) as node_id:
            yield placement.pinned(bot_id, target, node_id)

    def _check_network(self, name: str, deadline: Deadline) -> None:
        if name in ("", "bridge"):
            return
        try:
            network = self._engine.inspect_network(name, deadline)
        except EngineRejectedError as exc:
            raise engine_error(exc) from exc
        # A match by name only: an id could select the network of the host.
        if network is None or network["Name"] != name or network.get("Scope") != "swarm":
            raise InvalidConfigError(
                FieldViolation(
                    "config.network", f"the swarm has no network named {name}, only its own are on all nodes"
                )
            )
        if network["Driver"] in ("host", "null") or network.get("Ingress"):
            raise InvalidConfigError(FieldViolation("config.network", f"{name} is not a network for bots"))


class _CreatedServices:
    """Services that were made and never started, for :class:`GivenUpCreates`."""

    def __init__(self, engine: SwarmClient, services: BotServices) -> None:
        self._engine = engine
        self._services = services

    def list_containers(self, label: str, deadline: Deadline, state: ContainerState | None = None) -> list[Json]:
        rows = self._engine.list_services(deadline, label=[label])
        return [
            {"Id": row["ID"], "Labels": row["Spec"]["Labels"]}
            for row in rows
            if state is None or row["Spec"]["Labels"].get(LABEL_PHASE) == Phase.CREATED.value
        ]

    def remove_container(self, container_id: str, *, force: bool = True) -> None:
        def mark(service: Json) -> Json | None:
            if is_removing(service["Spec"]):
                return None
            if not force and (replicas_of(service) or phase_of(service) is not Phase.CREATED):
                raise EngineRejectedError(HTTPStatus.CONFLICT, "it has been started since")
            return removing(service["Spec"], ())

        # The removal names no version, and would take a start with it that came in between.
        self._services.change_now({"ID": container_id}, mark, "")
        self._engine.remove_service(container_id)
