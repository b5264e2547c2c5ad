"""A mix of calls of all verbs, from concurrent callers that share no bots."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from typing import Self

from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager_client import connect
from tests.support.calls import FOREVER
from tests.support.ledger import Ledger
from tests.support.recorded_calls import Recorder, create_request, request_of

# None ignores SIGTERM: after a crash, an engine would wait ten seconds for each.
COMMANDS = (FOREVER, FOREVER, FOREVER, ("no-such-command",))
VERBS = (
    *("CreateContainer",) * 4,
    *("StartContainer",) * 3,
    *("RemoveContainer",) * 2,
    "StopContainer",
    "RestartContainer",
    "GetContainerStatus",
    "ListManagedContainers",
)
_PAUSE_SECONDS = 0.02


class MixedCalls:
    """Callers that run during the ``with`` statement, also when their calls fail."""

    def __init__(
        self,
        seed: str,
        target: str,
        recorder: Recorder,
        bot_ids: Sequence[str],
        *,
        callers: int,
        seconds: float,
        network: str = "none",
        pause: float = _PAUSE_SECONDS,
    ) -> None:
        """``seconds``: the deadline of every call; ``network``: of the bots; ``pause``: the longest between two calls.

        Each caller has its own channel.
        """
        self._recorder = recorder
        self._seconds = seconds
        self._target = target
        self._network = network
        self._pause = pause
        self._ending = threading.Event()
        self._ledgers = [Ledger() for _ in range(callers)]
        self._bugs: list[str] = []
        self._threads = [
            threading.Thread(
                target=self._run,
                args=(random.Random(f"{seed} {number}"), self._ledgers[number], bot_ids[number::callers]),
                name=f"caller {number}",
            )
            for number in range(callers)
        ]

    @property
    def wrong(self) -> list[str]:
        """Answers that contradict one another, and failures of the callers themselves."""
        return [wrong for ledger in self._ledgers for wrong in ledger.wrong] + self._bugs

    @property
    def entries(self) -> dict[str, str | None]:
        """The container that each bot must have, once the callers have ended."""
        return {bot_id: entry for ledger in self._ledgers for bot_id, entry in ledger.entries.items()}

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _run(self, draw: random.Random, ledger: Ledger, bot_ids: Sequence[str]) -> None:
        try:
            with connect(self._target) as channel:
                stub = ContainerManagerStub(channel)
                while not self._ending.is_set():
                    verb, bot_id = draw.choice(VERBS), draw.choice(bot_ids)
                    if verb == "CreateContainer":
                        request = create_request(bot_id, *draw.choice(COMMANDS), network=self._network)
                    else:
                        request = request_of(verb, bot_id, grace_seconds=draw.choice((0, 0, 1)))
                    ledger.note(self._recorder.call(stub, verb, request, self._seconds))
                    time.sleep(draw.random() * self._pause)
        except Exception as exc:  # noqa: BLE001 - reported in the test's own thread
            self._bugs.append(f"{type(exc).__name__}: {exc}")
