"""Creates a bot's container: image, directories and container. A failed or cancelled create is undone."""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from container_manager.backend import Created
from container_manager.backends.docker.command_check import CommandCheck
from container_manager.backends.docker.lookup import find_container, remove
from container_manager.backends.docker.spec import LABEL_REQUEST_ID, container_body
from container_manager.backends.docker.status import status_from_inspect
from container_manager.bot_directories import check_secrets_directory, ensure_state_directory
from container_manager.config import DockerServiceConfig
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.engine.error_meanings import create_error, engine_error
from container_manager.engine.images import ImagePuller
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import (
    ContainerAlreadyExistsError,
    ContainerManagerError,
    EngineTimeoutError,
    EngineUnavailableError,
    FieldViolation,
    ImageNotFoundError,
    ImagePullFailedError,
    InvalidConfigError,
    InvalidStateError,
    SecretsUnavailableError,
    StateUnavailableError,
)
from container_manager.image_reference import check_image_allowed, check_image_reference, is_image_id
from container_manager.model import ContainerConfig, PullPolicy, container_name
from container_manager.validation import check_grace_seconds

_NAME_WAIT_SECONDS = 3.0
_NAME_POLL_SECONDS = 0.05
_BUILT_IN_NETWORKS = ("", "bridge", "none")


class ContainerCreator:
    """Carries out create. Safe for any number of threads."""

    def __init__(self, engine: EngineClient, config: DockerServiceConfig) -> None:
        self._engine = engine
        self._config = config
        self._stop_seconds = check_grace_seconds(config.grace_seconds)
        self._puller = ImagePuller(engine)
        self._commands = CommandCheck(engine)

    def create(
        self, bot_id: str, config: ContainerConfig, request_id: str, deadline: Deadline, *, absent: bool = False
    ) -> Created:
        """The bot's new container, or the one that an earlier call with this ``request_id`` made.

        ``absent``: the caller saw that the bot has none. The engine refuses a second one of the same name anyway.
        """
        image = self._image(config.image)
        if absent and not self._pulls(image, missing=False):
            try:
                return self._create(bot_id, config, image, request_id, deadline)
            except (InvalidConfigError, SecretsUnavailableError, StateUnavailableError, ImageNotFoundError):
                # A container with the bot's name takes precedence over any other fault.
                if existing := self._existing(bot_id, request_id, deadline):
                    return Created(existing)
                raise
        if existing := self._existing(bot_id, request_id, deadline):
            return Created(existing)
        return self._create(bot_id, config, image, request_id, deadline)

    def _create(self, bot_id: str, config: ContainerConfig, image: str, request_id: str, deadline: Deadline) -> Created:
        self._check_network(config.network, deadline)
        check_secrets_directory(self._config.secrets_root, bot_id)
        if self._pulls(image, missing=False):
            self._puller.pull(image, deadline)
        if self._config.state_root is not None:
            ensure_state_directory(self._config.state_root, bot_id, self._config.bot_user)
        body = container_body(
            bot_id,
            config,
            image=image,
            secrets_source=self._config.secrets_root.source(bot_id),
            state_source=self._config.state_root.source(bot_id) if self._config.state_root else None,
            request_id=request_id,
            create_id=str(uuid.uuid4()),
            stop_seconds=self._stop_seconds,
        )
        patience = Deadline(_NAME_WAIT_SECONDS)
        while True:
            try:
                return self._make(bot_id, body, deadline)
            except _NameTakenError:
                # Another caller was faster, or the engine still holds the name of a removed one (moby/moby#37698).
                if existing := self._existing(bot_id, request_id, deadline):
                    return Created(existing)
            if patience.remaining() == 0:
                raise InvalidStateError(
                    "the engine still holds the name of the bot's former container; try again later", bot_id=bot_id
                )
            time.sleep(_NAME_POLL_SECONDS)

    def _image(self, requested: str) -> str:
        if not requested:
            return self._config.default_image
        check_image_reference(requested)
        if requested != self._config.default_image:
            check_image_allowed(requested, self._config.allowed_images)
        return requested

    def _pulls(self, image: str, *, missing: bool) -> bool:
        """Whether to pull the image: before the create, or (``missing``) after the engine reported it missing."""
        if is_image_id(image):
            return False
        return self._config.pull_policy is (PullPolicy.MISSING if missing else PullPolicy.ALWAYS)

    def _existing(self, bot_id: str, request_id: str, deadline: Deadline) -> str | None:
        document = find_container(self._engine, bot_id, deadline)
        if document is None:
            return None
        container_id: str = document["Id"]
        if request_id and _request_id(document) == request_id:
            return container_id
        raise ContainerAlreadyExistsError(
            f"the bot has the container {container_id[:12]} already; remove that one first",
            bot_id=bot_id,
            container_id=container_id,
        )

    def _check_network(self, name: str, deadline: Deadline) -> None:
        if name in _BUILT_IN_NETWORKS:
            return
        try:
            network = self._engine.inspect_network(name, deadline)
        except EngineRejectedError as exc:
            # The engine also matches prefixes of ids, and several networks may share a name.
            if exc.status == HTTPStatus.BAD_REQUEST:
                violation = FieldViolation("config.network", f"the engine does not take this name: {exc.text}")
                raise InvalidConfigError(violation) from exc
            raise engine_error(exc) from exc
        # Accept a match by name only: an id could select the host's network.
        if network is None or network["Name"] != name:
            raise InvalidConfigError(FieldViolation("config.network", f"the engine has no network named {name}"))
        if network["Driver"] in ("host", "null"):
            raise InvalidConfigError(
                FieldViolation("config.network", f"{name} is not a bridge or user-defined network")
            )

    def _make(self, bot_id: str, body: dict[str, Any], deadline: Deadline) -> Created:
        container_id = self._make_with_image(bot_id, body, deadline)
        status = None
        try:
            document = self._engine.inspect_container(container_id, deadline)
            if document is not None:
                _check_request_id(document, body)
                if self._commands.is_runnable(document, deadline):
                    status = status_from_inspect(document)
                else:
                    self._remove(container_id, deadline)
                    without_init = {**body, "HostConfig": {**body["HostConfig"], "Init": False}}
                    container_id = self._make_with_image(bot_id, without_init, deadline)
            deadline.commit()
        except EngineRejectedError as exc:
            self._undo(container_id)
            raise engine_error(exc, bot_id) from exc
        except BaseException:
            self._undo(container_id)
            raise
        return Created(container_id, status)

    def _make_with_image(self, bot_id: str, body: dict[str, Any], deadline: Deadline) -> str:
        image: str = body["Image"]
        try:
            return self._post(bot_id, body, deadline)
        except _ImageMissingError as exc:
            if not self._pulls(image, missing=True):
                policy = "" if is_image_id(image) else f", and the pull policy is {self._config.pull_policy.value}"
                raise ImageNotFoundError(f"image {image} is not on the engine{policy}", image=image) from exc
        if find_container(self._engine, bot_id, deadline) is not None:
            raise _NameTakenError
        self._puller.pull(image, deadline)
        try:
            return self._post(bot_id, body, deadline)
        except _ImageMissingError as exc:
            # The SDK reports a broken stream as a complete one.
            raise ImagePullFailedError(f"image {image} is not on the engine after its pull", image=image) from exc

    def _post(self, bot_id: str, body: dict[str, Any], deadline: Deadline) -> str:
        deadline.check()
        try:
            return self._engine.create_container(container_name(bot_id), body)
        except EngineRejectedError as exc:
            if exc.status == HTTPStatus.CONFLICT:
                raise _NameTakenError from exc
            if exc.status == HTTPStatus.NOT_FOUND and "no such image" in exc.text.lower():
                raise _ImageMissingError from exc
            raise create_error(exc, bot_id) from exc
        except (EngineTimeoutError, EngineUnavailableError):
            self._undo_unknown(bot_id, body)
            raise

    def _undo_unknown(self, bot_id: str, body: dict[str, Any]) -> None:
        """After a create without a response: remove the container that it may have made, to release the name."""
        with suppress(EngineRejectedError, ContainerManagerError):
            made = find_container(self._engine, bot_id, Deadline())
            # Another caller may have created one since. This call's container has its request id and was never started.
            if made is not None and made["State"]["Status"] == "created" and _request_id(made) == _asked_id(body):
                self._engine.remove_container(made["Id"])

    def _remove(self, container_id: str, deadline: Deadline) -> None:
        """Remove the container that this call made, or wait for a removal by somebody else."""
        if remove(self._engine, container_id):
            return
        patience = Deadline(_NAME_WAIT_SECONDS)
        while patience.remaining() != 0 and self._engine.inspect_container(container_id, deadline) is not None:
            deadline.check()
            time.sleep(_NAME_POLL_SECONDS)

    def _undo(self, container_id: str) -> None:
        # Report the original error. A container that cannot be removed here shows in the list.
        with suppress(EngineRejectedError, ContainerManagerError):
            self._engine.remove_container(container_id)


def _request_id(document: dict[str, Any]) -> str:
    return (document["Config"].get("Labels") or {}).get(LABEL_REQUEST_ID) or ""


def _asked_id(body: dict[str, Any]) -> str:
    request_id: str = body["Labels"].get(LABEL_REQUEST_ID, "")
    return request_id


def _check_request_id(document: dict[str, Any], body: dict[str, Any]) -> None:
    """Refuse an image with a request id label: its containers would match a request that was never made."""
    if _request_id(document) and not _asked_id(body):
        violation = FieldViolation("config.image", f"the image carries a label {LABEL_REQUEST_ID} of its own")
        raise InvalidConfigError(violation)


class _NameTakenError(Exception):
    """The engine has a container of this name."""


class _ImageMissingError(Exception):
    """The engine does not have the image."""
