"""The two forms of StreamLogs: one entry in each message, or several. Readers check the form of each message."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from botmaker.container.v1 import container_observer_pb2 as pb
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub

MAX_MESSAGE_BYTES = 1 << 20


class OneByOne:
    """One entry in each message."""

    max_batch_entries = 0

    def request(self, bot_id: str, **fields: Any) -> pb.StreamLogsRequest:
        """A request for this form."""
        return pb.StreamLogsRequest(bot_id=bot_id, max_batch_entries=self.max_batch_entries, **fields)

    def entries_of(self, message: pb.StreamLogsResponse) -> list[pb.LogEntry]:
        """The entries of a message."""
        assert message.HasField("entry")
        assert 0 == len(message.entries)
        return [message.entry]

    def lines(self, messages: Iterable[pb.StreamLogsResponse]) -> list[bytes]:
        """The lines of these messages."""
        return [entry.line for message in messages for entry in self.entries_of(message)]

    def batches(self, observer: ContainerObserverStub, bot_id: str, **fields: Any) -> Iterator[list[pb.LogEntry]]:
        """The entries of each message of a stream that ends."""
        return map(self.entries_of, observer.StreamLogs(self.request(bot_id, **fields), timeout=60))

    def read(self, observer: ContainerObserverStub, bot_id: str, **fields: Any) -> list[pb.LogEntry]:
        """The entries of a stream that ends."""
        return [entry for batch in self.batches(observer, bot_id, **fields) for entry in batch]


class Batched(OneByOne):
    """At most ``max_batch_entries`` entries in each message."""

    def __init__(self, max_batch_entries: int) -> None:
        self.max_batch_entries = max_batch_entries

    def entries_of(self, message: pb.StreamLogsResponse) -> list[pb.LogEntry]:
        """The entries of a message."""
        assert not message.HasField("entry")
        assert 1 <= len(message.entries) <= self.max_batch_entries
        assert message.ByteSize() <= MAX_MESSAGE_BYTES
        return list(message.entries)


FORMS = {"one by one": OneByOne(), "batched": Batched(1000)}
