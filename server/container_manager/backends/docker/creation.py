"""Creates a bot's container: image, directories and container. A failed or cancelled create is undone."""

from __future__ import annotations

from contextlib import nullcontext
from http import HTTPStatus
from typing import Any

from container_manager.backend import Created
from container_manager.backends.bot_container import LABEL_CREATE_ID, LABEL_REQUEST_ID
from container_manager.backends.docker.bot_networks import BotNetworks, resolved
from container_manager.backends.docker.command_check import CommandCheck
from container_manager.backends.docker.container_images import ContainerImages
from container_manager.backends.docker.host_user import HostUser
from container_manager.backends.docker.lookup import find_container, label_of, remove
from container_manager.backends.docker.spec import container_body
from container_manager.backends.docker.start_directories import check_usable
from container_manager.backends.docker.status_reader import StatusReader
from container_manager.backends.given_up_creates import GivenUpCreates
from container_manager.backends.state_directories import StateDirectories
from container_manager.bot_directories import check_secrets_directory
from container_manager.config import BackendConfig
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.engine.error_meanings import create_error, engine_error, is_name_conflict
from container_manager.engine.transport_errors import STATUSES_OF_PROXIES, EngineRejectedError, was_not_sent
from container_manager.engine.user_namespace import check_secrets_usable, check_state_usable
from container_manager.errors import (
    ContainerAlreadyExistsError,
    FieldViolation,
    ImageNotFoundError,
    ImagePullFailedError,
    InvalidConfigError,
    InvalidStateError,
    SecretsUnavailableError,
    StateUnavailableError,
)
from container_manager.image_reference import is_image_id
from container_manager.model import ContainerConfig, ContainerState, container_name
from container_manager.operation import Operation, Wait
from container_manager.validation import check_grace_seconds

_NAME_WAIT_SECONDS = 3.0
_NAME_POLL_SECONDS = 0.05


class ContainerCreator:
    """Carries out create. Safe for any number of threads."""

    def __init__(
        self,
        engine: EngineClient,
        images: ContainerImages,
        commands: CommandCheck,
        config: BackendConfig,
        reader: StatusReader,
        *,
        networks: BotNetworks,
    ) -> None:
        self._engine = engine
        self._networks = networks
        self._config = config
        self._stop_seconds = check_grace_seconds(config.grace_seconds)
        self._images = images
        self._commands = commands
        self._reader = reader
        self._given_up = GivenUpCreates(engine, networks.remove_leftovers)
        self.host_user = HostUser(engine)
        self._states = (
            StateDirectories(config.state_root, config.bot_user, self.host_user)
            if config.state_root is not None
            else None
        )

    def close(self) -> None:
        """End what goes on in the background."""
        self._given_up.close()

    def create(
        self,
        bot_id: str,
        config: ContainerConfig,
        request_id: str,
        deadline: Deadline | None,
        *,
        absent: bool = False,
        image_id: str = "",
        state_mount: str = "",
    ) -> Operation[Created]:
        """The bot's new container, or the one that an earlier call with this ``request_id`` made.

        ``absent``: the caller saw that the bot has none. The engine refuses a second one of the same name anyway.
        ``image_id``: the image to take, which was checked before and is not pulled. ``state_mount``: its state's place.
        """
        deadline = deadline or Deadline()
        if image_id:
            image = self._images.pinned(config.image, image_id, deadline)
            made = yield from self._create_checked(bot_id, config, image, request_id, deadline, state_mount)
            document = find_container(self._engine, bot_id, deadline)
            if document is None or document["Image"] == image_id:
                return made
            # The name has come to name another image meanwhile. An id names one for ever.
            yield from self._remove(made.container_id, deadline)
            return (yield from self._create_checked(bot_id, config, image_id, request_id, deadline, state_mount))
        image = self._images.allowed(config.image)
        if absent and not self._images.pulls(image, missing=False):
            try:
                return (yield from self._create(bot_id, config, image, request_id, deadline))
            except (InvalidConfigError, SecretsUnavailableError, StateUnavailableError, ImageNotFoundError):
                # A container with the bot's name takes precedence over any other fault.
                if existing := self._existing(bot_id, request_id, deadline):
                    return Created(existing)
                raise
        if existing := self._existing(bot_id, request_id, deadline):
            return Created(existing)
        return (yield from self._create(bot_id, config, image, request_id, deadline))

    def _create_checked(  # noqa: PLR0917
        self, bot_id: str, config: ContainerConfig, image: str, request_id: str, deadline: Deadline, state_mount: str
    ) -> Operation[Created]:
        if existing := self._existing(bot_id, request_id, deadline):
            return Created(existing)
        return (yield from self._create(bot_id, config, image, request_id, deadline, state_mount, pulls=False))

    def _create(  # noqa: PLR0917
        self,
        bot_id: str,
        config: ContainerConfig,
        image: str,
        request_id: str,
        deadline: Deadline,
        state_mount: str = "",
        *,
        pulls: bool = True,
    ) -> Operation[Created]:
        config = resolved(bot_id, config, self._config.bot_network)
        self._networks.check(bot_id, config.network, deadline)
        check_secrets_directory(self._config.secrets_root, bot_id)
        if (namespace := self._engine.user_namespace(deadline)) is not None:
            check_secrets_usable(self._config.secrets_root, bot_id, namespace, self._config.bot_user)
        if pulls and self._images.pulls(image, missing=False):
            yield from self._images.pull(image, deadline)
        with self._states.prepared(bot_id) if self._states is not None else nullcontext():
            if namespace is not None and self._config.state_root is not None:
                check_state_usable(self._config.state_root, bot_id, namespace, self._config.bot_user)
            return (yield from self._create_prepared(bot_id, config, image, state_mount, request_id, deadline))

    def _create_prepared(  # noqa: PLR0917
        self, bot_id: str, config: ContainerConfig, image: str, state_mount: str, request_id: str, deadline: Deadline
    ) -> Operation[Created]:
        create_id = self._given_up.open()
        body = container_body(
            bot_id,
            config,
            image=image,
            secrets_source=self._config.secrets_root.source(bot_id),
            state_source=self._config.state_root.source(bot_id) if self._config.state_root else None,
            state_target=state_mount or self._config.state_mount,
            request_id=request_id,
            create_id=create_id,
            stop_seconds=self._stop_seconds,
        )
        try:
            # A network that the engine makes later is removed after the search.
            with self._networks.prepared(bot_id, config.network, deadline, lambda: self._given_up.give_up(create_id)):
                return (yield from self._make_when_free(bot_id, body, request_id, deadline))
        finally:
            self._given_up.finish(create_id)

    def _make_when_free(
        self, bot_id: str, body: dict[str, Any], request_id: str, deadline: Deadline
    ) -> Operation[Created]:
        patience = Deadline(_NAME_WAIT_SECONDS)
        while True:
            try:
                return (yield from self._make(bot_id, body, deadline))
            except _NameTakenError:
                # Another caller was faster, or the engine still holds the name of a removed one (moby/moby#37698).
                if existing := self._existing(bot_id, request_id, deadline):
                    return Created(existing)
            if patience.remaining() == 0:
                raise InvalidStateError(
                    "the engine still holds the name of a container that it removes or makes; try again later",
                    bot_id=bot_id,
                )
            yield Wait(seconds=_NAME_POLL_SECONDS, deadline=deadline)

    def _existing(self, bot_id: str, request_id: str, deadline: Deadline) -> str | None:
        document = find_container(self._engine, bot_id, deadline)
        if document is None:
            return None
        if document["State"]["Status"] == ContainerState.REMOVING.value:
            # The engine is removing it: wait for its name.
            return None
        container_id: str = document["Id"]
        create_id = label_of(document, LABEL_CREATE_ID)
        if request_id and label_of(document, LABEL_REQUEST_ID) == request_id:
            if not self._given_up.adopt(create_id):
                return None
            if self._states is not None and _mounts(document, self._config.state_mount):
                self._states.keep(bot_id)
            return container_id
        if self._given_up.is_given_up(create_id):
            self._given_up.undo(create_id, container_id)
            return None
        raise ContainerAlreadyExistsError(
            f"the bot has the container {container_id[:12]} already; remove that one first",
            bot_id=bot_id,
            container_id=container_id,
        )

    def _make(self, bot_id: str, body: dict[str, Any], deadline: Deadline) -> Operation[Created]:
        container_id = yield from self._make_with_image(bot_id, body, deadline)
        made: str | None = container_id
        create_id, status = body["Labels"][LABEL_CREATE_ID], None
        try:
            document = self._engine.inspect_container(container_id, deadline)
            if document is not None:
                _check_request_id(document, body)
                check_usable(self._engine, self._config, bot_id, document, deadline)
                if self._commands.needs_init(document, deadline):
                    status = self._reader.read(self._engine, document, deadline)
                else:
                    yield from self._remove(container_id, deadline)
                    without_init = {**body, "HostConfig": {**body["HostConfig"], "Init": False}}
                    made = None
                    made = container_id = yield from self._make_with_image(bot_id, without_init, deadline)
                    self._commands.engine_judges(container_id)
            deadline.commit()
        except BaseException as exc:
            if made is not None:
                self._given_up.undo(create_id, made)
            if isinstance(exc, EngineRejectedError):
                raise engine_error(exc, bot_id) from exc
            raise
        return Created(container_id, status)

    def _make_with_image(self, bot_id: str, body: dict[str, Any], deadline: Deadline) -> Operation[str]:
        image: str = body["Image"]
        try:
            return self._post(bot_id, body, deadline)
        except _ImageMissingError as exc:
            if not self._images.pulls(image, missing=True):
                policy = "" if is_image_id(image) else f", and the pull policy is {self._config.pull_policy.value}"
                raise ImageNotFoundError(f"image {image} is not on the engine{policy}", image=image) from exc
        if find_container(self._engine, bot_id, deadline) is not None:
            raise _NameTakenError
        yield from self._images.pull(image, deadline)
        try:
            return self._post(bot_id, body, deadline)
        except _ImageMissingError as exc:
            raise ImagePullFailedError(f"image {image} is not on the engine after its pull", image=image) from exc

    def _post(self, bot_id: str, body: dict[str, Any], deadline: Deadline) -> str:
        deadline.check()
        try:
            return self._engine.create_container(container_name(bot_id), body)
        except EngineRejectedError as exc:
            if is_name_conflict(exc, container_name(bot_id)):
                raise _NameTakenError from exc
            if exc.status == HTTPStatus.NOT_FOUND and "no such image" in exc.text.lower():
                raise _ImageMissingError from exc
            if exc.status in STATUSES_OF_PROXIES:
                self._given_up.give_up(body["Labels"][LABEL_CREATE_ID])
            raise create_error(exc, bot_id, self._config.state_root) from exc
        except BaseException as exc:
            if not was_not_sent(exc):
                self._given_up.give_up(body["Labels"][LABEL_CREATE_ID])
            raise

    def _remove(self, container_id: str, deadline: Deadline) -> Operation[None]:
        """Remove the container that this call made, or wait for a removal by somebody else."""
        try:
            if remove(self._engine, container_id):
                return
        except EngineRejectedError as exc:
            raise engine_error(exc) from exc
        patience = Deadline(_NAME_WAIT_SECONDS)
        while patience.remaining() != 0 and self._engine.inspect_container(container_id, deadline) is not None:
            deadline.check()
            yield Wait(seconds=_NAME_POLL_SECONDS, deadline=deadline)


def _mounts(document: dict[str, Any], target: str) -> bool:
    return any(mount.get("Destination") == target for mount in document.get("Mounts") or [])


def _check_request_id(document: dict[str, Any], body: dict[str, Any]) -> None:
    """Refuse an image with a request id label: its containers would match a request that was never made."""
    if label_of(document, LABEL_REQUEST_ID) and LABEL_REQUEST_ID not in body["Labels"]:
        violation = FieldViolation("config.image", f"the image carries a label {LABEL_REQUEST_ID} of its own")
        raise InvalidConfigError(violation)


class _NameTakenError(Exception):
    """The engine has a container of this name."""


class _ImageMissingError(Exception):
    """The engine does not have the image."""
