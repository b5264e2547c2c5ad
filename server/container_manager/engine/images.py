"""Image pulls: one at a time per reference, shared by all callers that wait for it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future

from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.engine.pull_errors import pull_error
from container_manager.engine.transport_errors import EngineRejectedError

# A pull without progress for this long counts as lost: the next caller starts another one.
SILENCE_SECONDS = 300.0


class _Pull:
    """One pull in progress."""

    def __init__(self) -> None:
        self.future: Future[None] = Future()
        self.heard = time.monotonic()

    def is_lost(self) -> bool:
        return time.monotonic() - self.heard > SILENCE_SECONDS


class ImagePuller:
    """Pulls images. A caller that gives up returns at once, whatever the registry does.

    The pull itself continues, because the engine's API cannot interrupt a hanging registry. Other callers for the same
    reference join it. It changes only the engine's image store.
    """

    def __init__(self, engine: EngineClient) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._under_way: dict[str, _Pull] = {}

    def pull(self, reference: str, deadline: Deadline) -> None:
        """Return once ``reference`` has been pulled; raise the domain's image error, or ``deadline``'s when it ends."""
        future = self._join_or_start(reference).future
        wake = threading.Event()
        future.add_done_callback(lambda _: wake.set())
        deadline.on_cancel(wake.set)
        while not future.done():
            wake.wait(deadline.remaining())
            if not future.done():
                deadline.check()
        future.result()

    def _join_or_start(self, reference: str) -> _Pull:
        with self._lock:
            pull = self._under_way.get(reference)
            if pull is None or pull.is_lost():
                pull = self._under_way[reference] = _Pull()
                # A daemon thread, so that a hanging registry does not delay the exit of the process.
                threading.Thread(
                    target=self._run, args=(reference, pull), name=f"pull {reference}", daemon=True
                ).start()
            return pull

    def _run(self, reference: str, pull: _Pull) -> None:
        try:
            self._pull(reference, pull)
        except BaseException as exc:  # noqa: BLE001 - a future carries any outcome to those who wait
            self._forget(reference, pull)
            pull.future.set_exception(exc)
        else:
            self._forget(reference, pull)
            pull.future.set_result(None)

    def _forget(self, reference: str, pull: _Pull) -> None:
        with self._lock:
            if self._under_way.get(reference) is pull:
                del self._under_way[reference]

    def _pull(self, reference: str, pull: _Pull) -> None:
        try:
            for message in self._engine.pull(reference):
                pull.heard = time.monotonic()
                if "error" in message or "errorDetail" in message:
                    detail = message.get("errorDetail") or {}
                    text = str(detail.get("message") or message.get("error"))
                    raise pull_error(text, reference, detail.get("code"))
        except EngineRejectedError as exc:
            raise pull_error(exc.text, reference, exc.status) from exc
