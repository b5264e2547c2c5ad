"""Pulls of images for callers that wait in threads, from an engine in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from container_manager.deadline import Deadline
from container_manager.engine.images import ImagePuller
from container_manager.engine.long_calls import LongCalls
from container_manager.operation import carry_out
from tests.support.fake_engine import FakeEngine, Hang, Request, Stream
from tests.support.waiting import wait_until

CREATE = ("POST", "/images/create")


class Puller(ImagePuller):
    """Pulls for callers that wait in threads."""

    def now(self, reference: str, deadline: Deadline) -> None:
        """Pull, and return when it is done."""
        carry_out(self.pull(reference, deadline))


def making_puller(engine: FakeEngine, calls: LongCalls) -> Iterator[Puller]:
    """Asserts that every pull has ended after the test."""
    puller = Puller(calls)
    yield puller
    engine.release()
    wait_until(lambda: not len(puller), "all pulls end")


def stalls(engine: FakeEngine, registry: str, *messages: Any) -> None:
    """The engine sends these messages for pulls from this registry, and nothing more until it is released.

    Pulls from other registries succeed.
    """

    def slowly() -> Iterator[Any]:
        yield from messages
        engine._released.wait()

    def answer(request: Request) -> Hang | Stream:
        if not request.query["fromImage"].startswith(registry):
            return Stream([])
        return Stream(slowly()) if messages else Hang(Stream([]))

    engine.on(*CREATE, answer)
