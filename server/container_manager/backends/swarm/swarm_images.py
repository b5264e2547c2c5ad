"""The images of bots on a swarm: which are allowed, and what their registries say of them.

Nodes pull images by themselves. So that all take the same one, a service names its image with the digest that the
registry has at the create.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress

from container_manager.config import BackendConfig
from container_manager.deadline import Deadline
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.pull_errors import pull_error
from container_manager.engine.registry_credentials import Credentials, RegistryConfigError, credentials_for
from container_manager.engine.registry_places import RegistryPlaces
from container_manager.engine.swarm import SwarmClient
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import (
    CapacityExceededError,
    EngineAccessDeniedError,
    EngineTimeoutError,
    ImageNotFoundError,
    ImagePullDeniedError,
    ImagePullFailedError,
    ImageRegistryUnavailableError,
    reason_of,
)
from container_manager.image_reference import (
    content_id_of,
    is_image_id,
    registry_of,
    requested_image,
    split_version,
)
from container_manager.model import PullPolicy
from container_manager.operation import Operation, Pull

OF_ONE_REGISTRY = 8
"""Images that a registry that has answered is asked for at once, with a thread each, should it stop."""

_log = logging.getLogger(__name__)


class _Question:
    """What a registry is asked for one image."""

    def __init__(self, image: str) -> None:
        self.image = image
        self.registry = registry_of(image)
        self.future: Future[str] = Future()
        self.waiting = 0
        """How many callers wait for it."""
        self.is_asked = False
        """A thread asks it. Until then it is queued."""


class SwarmImages:
    """Of one swarm, for any number of threads."""

    def __init__(self, engine: SwarmClient, config: BackendConfig) -> None:
        self._engine = engine
        self._config = config
        self._lock = threading.Lock()
        # By image, in the order of arrival.
        self._questions: dict[str, _Question] = {}
        self._places = RegistryPlaces(OF_ONE_REGISTRY)

    def allowed(self, requested: str) -> str:
        """The image that a request means. Raises the errors of a create for one that it may not have."""
        return requested_image(requested, self._config.default_image, self._config.allowed_images)

    def pinned(self, requested: str, content_id: str) -> str:
        """The image with this content, as :meth:`prepare` has told it."""
        name = (requested or self._config.default_image).partition("@")[0]
        if is_image_id(name) or self._config.pull_policy is PullPolicy.NEVER:
            return content_id
        return f"{split_version(name)[0]}@{content_id}"

    def resolve(self, image: str, deadline: Deadline) -> Operation[str]:
        """The image with its digest, as its registry has it now. Raises the errors of a create for its image.

        With the pull policy ``never``, its id on the manager's own engine: nodes ask no registry for an id, and either
        have the image or cannot start the bot.
        """
        if is_image_id(image):
            return image
        if "@" in image:
            if self._config.pull_policy is not PullPolicy.NEVER:
                # The registry has it.
                yield from self._joined(image, deadline)
            return image
        if self._config.pull_policy is PullPolicy.NEVER:
            return self._id_on_manager(image, deadline)
        return f"{image}@{(yield from self._joined(image, deadline))}"

    def prepare(self, requested: str, deadline: Deadline) -> Operation[str]:
        """The digest of the image that a create would take, or its id."""
        return content_id_of((yield from self.resolve(self.allowed(requested), deadline)))

    def current_credentials(self, image: str, deadline: Deadline) -> str | None:
        """What nodes send to the image's registry, as the engine's ``X-Registry-Auth``.

        Takes as long as a helper, while the caller waits. ``None`` also for what nodes ask no registry for, and for
        what cannot be read: nodes that have the image need none.
        """
        if is_image_id(image) or self._config.pull_policy is PullPolicy.NEVER:
            return None
        given_up = threading.Event()
        deadline.on_cancel(given_up.set)
        try:
            return self._credentials(image, given_up).header()
        except ImagePullFailedError as exc:
            # Its text has the image, which the caller names.
            _log.warning("nodes get no new credentials: %s", reason_of(exc))
            return None

    def _id_on_manager(self, image: str, deadline: Deadline) -> str:
        try:
            document = self._engine.inspect_image(image, deadline)
        except EngineRejectedError as exc:
            raise engine_error(exc) from exc
        if document is None:
            raise ImageNotFoundError(
                f"image {image} is not on the manager's engine, and the pull policy is never", image=image
            )
        return str(document["Id"])

    def _joined(self, image: str, deadline: Deadline) -> Operation[str]:
        """The image's digest. All who want it at the same time wait for one answer: a registry may take its time."""
        with self._question(image) as future:
            while not future.done():
                yield Pull(future=future, deadline=deadline)
                if not future.done():
                    deadline.check()
            return future.result()

    @contextmanager
    def _question(self, image: str) -> Iterator[Future[str]]:
        """A question that is asked as soon as it has a place. A queued one that nobody waits for is dropped."""
        with self._lock:
            question = self._questions.setdefault(image, _Question(image))
            question.waiting += 1
        try:
            self._start()
            yield question.future
        finally:
            with self._lock:
                question.waiting -= 1
                if not question.waiting and not question.is_asked:
                    del self._questions[image]

    def _start(self) -> None:
        """Start a thread for each question that has a place."""
        with self._lock:
            while (question := self._next()) is not None:
                try:
                    threading.Thread(target=self._ask, args=(question,), name="image digest", daemon=True).start()
                except RuntimeError as exc:
                    raise CapacityExceededError("the machine has no thread to spare; try again later") from exc
                question.is_asked = True

    def _next(self) -> _Question | None:
        """The first queued question that has a place. With the lock held."""
        asked = Counter(each.registry for each in self._questions.values() if each.is_asked)
        for question in self._questions.values():
            if not question.is_asked and self._places.has_one(question.registry, asked):
                return question
        return None

    def _ask(self, first: _Question) -> None:
        """Runs in a thread of its own: also a credential helper may take its time. Goes on with what is queued."""
        question: _Question | None = first
        while question is not None:
            digest = ""
            failure: BaseException | None = None
            try:
                digest = self._digest(question.image)
            except BaseException as exc:  # noqa: BLE001 - a future carries any outcome
                failure = exc
            with self._lock:
                del self._questions[question.image]
                if isinstance(failure, ImageRegistryUnavailableError | EngineTimeoutError):
                    self._places.answered.pop(question.registry, None)
                elif failure is None or isinstance(failure, ImageNotFoundError | ImagePullDeniedError):
                    self._places.note_answer(question.registry)
                following = self._next()
                if following is not None:
                    following.is_asked = True
            if failure is None:
                question.future.set_result(digest)
            else:
                question.future.set_exception(failure)
            question = following
            # An answer may make places for several.
            with suppress(CapacityExceededError):
                self._start()

    def _digest(self, image: str) -> str:
        credentials = self._credentials(image)
        try:
            document = self._engine.distribution(image, credentials.header(), Deadline())
        except EngineRejectedError as exc:
            raise pull_error(exc.text, image, exc.status, credentials.origin) from exc
        except EngineAccessDeniedError as exc:
            # The engine passes the registry's own answer on, unless it is its socket that refuses.
            if not isinstance(exc.__cause__, EngineRejectedError):
                raise
            raise pull_error(exc.__cause__.text, image, exc.__cause__.status, credentials.origin) from exc
        return str(document["Descriptor"]["digest"])

    def _credentials(self, image: str, given_up: threading.Event | None = None) -> Credentials:
        try:
            return credentials_for(image, self._config.registry_config, given_up)
        except RegistryConfigError as exc:
            raise ImagePullFailedError(f"image {image} was not asked for: {exc}", image=image) from exc
