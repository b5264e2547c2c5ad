"""Health answers, requested many times a second, with the time of each."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from container_manager_client import connect
from tests.support.waiting import wait_until

SERVING = "SERVING"
NOT_SERVING = "NOT_SERVING"
NO_ANSWER = "no answer"
_PAUSE_SECONDS = 0.05


class Sample(NamedTuple):
    """One answer, and the time of its request."""

    asked: float
    said: str


class HealthRecord:
    """Asks during the ``with`` statement, on its own channel."""

    def __init__(self, target: str) -> None:
        self._target = target
        self.samples: list[Sample] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="health")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def seconds_until(self, said: str, since: float, timeout_seconds: float) -> float:
        """Wait for this answer; returns the seconds from ``since`` to its request."""
        what = f"health says {said}"
        wait_until(lambda: self._first(said, since), what, timeout_seconds)
        return self._first(said, since) - since

    def said_between(self, begin: float, end: float) -> set[str]:
        """All answers to requests that were sent in this time."""
        return {sample.said for sample in list(self.samples) if begin <= sample.asked <= end}

    def _first(self, said: str, since: float) -> float:
        return next((each.asked for each in list(self.samples) if each.asked >= since and each.said == said), 0.0)

    def _run(self) -> None:
        with connect(self._target) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while not self._ending.is_set():
                asked = time.monotonic()
                try:
                    status = stub.Check(health_pb2.HealthCheckRequest(), timeout=2).status
                    said = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
                except grpc.RpcError:
                    said = NO_ANSWER
                self.samples.append(Sample(asked, said))
                self._ending.wait(_PAUSE_SECONDS)
