"""Reads the observer's streams in a thread, and keeps the messages so far."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from botmaker.container.v1 import container_observer_pb2 as pb
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from tests.support.waiting import wait_until


@dataclass
class Reading:
    """A stream that is read to its end."""

    call: Any
    messages: list[Any] = field(default_factory=list)
    error: grpc.RpcError | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    def read(self) -> None:
        """Read to the end; runs in a thread."""
        try:
            for message in self.call:
                self.messages.append(message)
        except grpc.RpcError as exc:
            self.error = exc
        finally:
            self.ended.set()

    def wait_for(self, condition: Callable[[list[Any]], Any], what: str, timeout_seconds: float = 60.0) -> Any:
        """Wait until the messages so far fulfil the condition; returns its value."""
        return wait_until(lambda: condition(list(self.messages)), what, timeout_seconds)

    def wait_end(self, timeout_seconds: float = 60.0) -> grpc.RpcError | None:
        """The error that the stream ended with, if any."""
        assert self.ended.wait(timeout_seconds), f"still open after {len(self.messages)} messages"
        return self.error


@contextmanager
def reading(call: Any) -> Iterator[Reading]:
    """Read a stream in the background; it is cancelled at the end."""
    read = Reading(call)
    thread = threading.Thread(target=read.read, name="reading")
    thread.start()
    try:
        yield read
    finally:
        call.cancel()
        thread.join()


@contextmanager
def watching(stub: ContainerObserverStub, bot_ids: Sequence[str] = ()) -> Iterator[Reading]:
    """A WatchContainers stream after its synced message."""
    with reading(stub.WatchContainers(pb.WatchContainersRequest(bot_ids=bot_ids))) as read:
        read.wait_for(lambda messages: any(each.HasField("synced") for each in messages), "synced")
        yield read


def kinds(messages: Sequence[pb.WatchContainersResponse]) -> list[str]:
    """The kind of event in each message."""
    return [str(message.WhichOneof("event")) for message in messages]


def after_synced(messages: Sequence[pb.WatchContainersResponse]) -> list[pb.WatchContainersResponse]:
    """The messages that came after the snapshots."""
    return list(messages)[kinds(messages).index("synced") + 1 :]
