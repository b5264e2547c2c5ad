"""Image pulls: one at a time per reference, shared by all callers that wait for it, and a bounded number at once."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import Context
from functools import partial
from operator import itemgetter

from container_manager.backend_maintenance import OnPull
from container_manager.config import RegistryConfig
from container_manager.deadline import Deadline
from container_manager.engine.async_client import lines_of
from container_manager.engine.long_calls import LongCalls
from container_manager.engine.pull_errors import pull_error
from container_manager.engine.pull_progress import PullProgress
from container_manager.engine.registry_credentials import Credentials, RegistryConfigError, credentials_for
from container_manager.engine.registry_places import RegistryPlaces
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import (
    CapacityExceededError,
    ContainerManagerError,
    EngineUnavailableError,
    ImagePullFailedError,
    ImageRegistryUnavailableError,
)
from container_manager.image_reference import registry_of, split_version
from container_manager.operation import Operation, Pull

OF_ONE_REGISTRY = 4
"""Pulls at once from a registry that has answered, should it stop. The engine downloads three layers at a time over all
pulls (dockerd ``--max-concurrent-downloads``), so more would be no faster."""
_READING_CREDENTIALS = 32
"""Threads. A helper that hangs holds one for each pull from its registry."""
FIRST_MESSAGE_SECONDS = 120.0
"""A pull has failed if the engine sends no message for this long after its begin. It sends the first one when a
registry has answered. Before that it tries addresses and mirrors, each with a time-out of half a minute at most."""
SILENCE_SECONDS = 300.0
"""A pull has failed if the engine sends no further message for this long: it may unpack a large layer in silence."""


PROGRESS_SECONDS = 0.5
"""How often those who ask for it receive how far a pull is."""


class _Pull:
    """One pull, queued or under way."""

    def __init__(self, reference: str) -> None:
        self.reference = reference
        self.registry = registry_of(reference)
        self.future: Future[None] = Future()
        self.waiting = 0
        """How many callers wait for it."""
        self.task: Future[None] | None = None
        """Its work; ``None``: queued."""
        self.progress = PullProgress()
        self.heard: float | None = None
        """When the engine last sent a message; ``None``: not yet."""


class ImagePuller:
    """Pulls images. A caller that gives up returns at once, whatever the registry does.

    Pulls that find no place wait in the order of arrival. A queued pull that nobody waits for any more is dropped. One
    that is under way goes on, because the engine discards what it has downloaded when a pull ends early, and a caller
    that tries again joins it; but it gives its place up as soon as another pull needs that place. Until the engine has
    sent its first message, it does not: an engine that waits for a registry's answer goes on waiting when its client
    leaves (Docker 20.10), so that the places bound what waits there.
    """

    def __init__(self, calls: LongCalls, registry_config: RegistryConfig | None = None) -> None:
        self._calls = calls
        self._registry_config = registry_config
        self._lock = threading.Lock()
        # By reference, in the order of arrival.
        self._pulls: dict[str, _Pull] = {}
        self._places = RegistryPlaces(OF_ONE_REGISTRY)
        self._reading = ThreadPoolExecutor(_READING_CREDENTIALS, "credentials")

    def __len__(self) -> int:
        """How many pulls are queued or under way."""
        return len(self._pulls)

    def pull(self, reference: str, deadline: Deadline, on_pull: OnPull | None = None) -> Operation[None]:
        """Return once ``reference`` has been pulled; raise the domain's image error, or ``deadline``'s when it ends."""
        with self._joined(reference) as pull:
            future, seconds = pull.future, None if on_pull is None else PROGRESS_SECONDS
            wait = Pull(future=future, deadline=deadline, seconds=seconds)
            while not future.done():
                yield wait
                if on_pull is not None:
                    on_pull(pull.progress.pulled)
                if not future.done():
                    deadline.check()
            future.result()

    @contextmanager
    def _joined(self, reference: str) -> Iterator[_Pull]:
        with self._lock:
            pull = self._pulls.get(reference)
            if pull is None:
                pull = self._pulls[reference] = _Pull(reference)
            pull.waiting += 1
            try:
                self._start_queued()
            except BaseException:
                self._leave(pull)
                raise
        try:
            yield pull
        finally:
            with self._lock:
                self._leave(pull)

    # All below but the coroutines: with the lock held.

    def _leave(self, pull: _Pull) -> None:
        pull.waiting -= 1
        if pull.waiting == 0 and pull.task is None:
            self._forget(pull)
        elif pull.waiting == 0:
            self._start_queued()

    def _forget(self, pull: _Pull) -> None:
        if self._pulls.get(pull.reference) is pull:
            del self._pulls[pull.reference]

    def _start_queued(self) -> None:
        full = set[str]()
        for pull in [each for each in self._pulls.values() if each.task is None]:
            if pull.registry in full:
                continue
            if self._has_place(pull):
                # Not in the context of the call that happened to be first.
                pull.task = Context().run(self._calls.submit, self._run(pull))
            else:
                full.add(pull.registry)

    def _has_place(self, pull: _Pull) -> bool:
        """Whether it has a place, or takes that of a pull that nobody waits for: of those, the one silent longest."""
        under_way = [each for each in self._pulls.values() if each.task is not None]
        counts = Counter(each.registry for each in under_way)
        if self._places.has_one(pull.registry, counts):
            return True
        abandoned = [(each.heard, each) for each in under_way if not each.waiting and each.heard is not None]
        for _, other in sorted(abandoned, key=itemgetter(0)):
            counts[other.registry] -= 1
            if self._places.has_one(pull.registry, counts):
                self._forget(other)
                if other.task is not None:
                    other.task.cancel()
                return True
            counts[other.registry] += 1
        return False

    async def _run(self, pull: _Pull) -> None:
        failure: BaseException | None = None
        try:
            await self._pull(pull)
        except asyncio.CancelledError:
            failure = EngineUnavailableError(f"the pull of image {pull.reference} was ended; try again")
            raise
        except BaseException as exc:  # noqa: BLE001 - a future carries any outcome to those who wait
            failure = exc
        finally:
            with self._lock:
                self._forget(pull)
                with suppress(ContainerManagerError):
                    self._start_queued()
            if failure is None:
                pull.future.set_result(None)
            else:
                pull.future.set_exception(failure)

    async def _pull(self, pull: _Pull) -> None:
        reference = pull.reference
        credentials = await self._credentials(reference)
        try:
            async with asyncio.timeout(FIRST_MESSAGE_SECONDS) as silence:
                loop = asyncio.get_running_loop()
                async with self._calls.engine.pull(_parameters(reference), credentials.header()) as stream:
                    async for line in lines_of(stream):
                        message = json.loads(line)
                        self._hear(pull)
                        pull.progress.take(message)
                        silence.reschedule(loop.time() + SILENCE_SECONDS)
                        if "error" in message or "errorDetail" in message:
                            detail = message.get("errorDetail") or {}
                            text = str(detail.get("message") or message.get("error"))
                            raise pull_error(text, reference, detail.get("code"), credentials.origin)
        except EngineRejectedError as exc:
            raise pull_error(exc.text, reference, exc.status, credentials.origin) from exc
        except TimeoutError as exc:
            seconds = SILENCE_SECONDS
            if pull.heard is None:
                seconds = FIRST_MESSAGE_SECONDS
                with self._lock:
                    self._places.answered.pop(pull.registry, None)
            raise ImageRegistryUnavailableError(
                f"image {reference} could not be pulled: nothing came for {seconds:g} s", image=reference
            ) from exc

    def _hear(self, pull: _Pull) -> None:
        is_first, pull.heard = pull.heard is None, time.monotonic()
        if is_first or pull.registry not in self._places.answered:
            with self._lock:
                self._places.note_answer(pull.registry)
                self._start_queued()

    async def _credentials(self, reference: str) -> Credentials:
        given_up = threading.Event()
        try:
            # In a thread: a credential helper is a program, which may take its time.
            read = partial(credentials_for, reference, self._registry_config, given_up)
            return await asyncio.get_running_loop().run_in_executor(self._reading, read)
        except RegistryConfigError as exc:
            raise ImagePullFailedError(f"image {reference} was not pulled: {exc}", image=reference) from exc
        except RuntimeError as exc:
            raise CapacityExceededError("the machine has no thread to spare for a pull; try again later") from exc
        finally:
            # Otherwise the exit of the process would wait for the thread, and the thread for the helper.
            given_up.set()


def _parameters(reference: str) -> dict[str, str]:
    """The parameters of a pull: the engine takes a digest in place of a tag."""
    name, _, digest = reference.partition("@")
    if digest:
        return {"fromImage": name, "tag": digest}
    repository, version = split_version(name)
    return {"fromImage": repository, "tag": version.removeprefix(":") or "latest"}
