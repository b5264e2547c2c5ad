"""Reads a bot's log across restarts of the bot and of the service, without losing or repeating entries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from botctl.resuming import followed
from botmaker.container.v1 import container_observer_pb2 as pb
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub

_MAX_BATCH_ENTRIES = 1000
# CANCELLED: the service could not even tell the reader.
_NOT_TAKEN = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED)


@dataclass(frozen=True)
class LogSelection:
    """The bot, and the part of its log to read."""

    bot_id: str
    follow: bool = False
    tail: int | None = None
    after: Timestamp | None = None
    limit_bytes: int | None = None


class LogReading:
    """Iterates over a log once, in batches of entries as they arrive.

    It first reads the existing entries, then follows from the cursor of the last one. A single stream could lose
    entries: if it breaks before its first entry, there is no cursor to resume from.
    """

    def __init__(self, observer: ContainerObserverStub, wanted: LogSelection, notice: Callable[[str], None]) -> None:
        self._observer = observer
        self._wanted = wanted
        self._notice = notice
        self._last: pb.LogEntry | None = None
        self._bytes_left = wanted.limit_bytes
        # The entries are read only to learn the cursor to follow from.
        self._hidden = False

    def __iter__(self) -> Iterator[Sequence[pb.LogEntry]]:
        yield from self._noted(self._existing())
        if not self._wanted.follow:
            return
        self._hidden = False
        if self._bytes_left == 0:
            return
        try:
            yield from self._noted(followed(self._open_following, self._notice))
        except grpc.RpcError as exc:
            # The container existed before, so it was removed while the service was away: the log has ended.
            if exc.code() is not grpc.StatusCode.NOT_FOUND:
                raise

    def _noted(self, messages: Iterator[pb.StreamLogsResponse]) -> Iterator[Sequence[pb.LogEntry]]:
        for message in messages:
            entries = _entries(message)
            self._last = entries[-1]
            if self._hidden:
                continue
            if any(entry.gap for entry in entries):
                self._notice("lines are missing: the engine has dropped them, or cannot read them")
            if self._bytes_left is not None:
                self._bytes_left = max(self._bytes_left - sum(len(entry.line) for entry in entries), 0)
            yield entries

    def _existing(self) -> Iterator[pb.StreamLogsResponse]:
        """The existing entries. The service ends a stream whose reader rests, such as a pager."""
        while True:
            last = self._last
            try:
                yield from followed(self._open, self._notice) if self._wanted.follow else self._open()
            except grpc.RpcError as exc:
                if exc.code() not in _NOT_TAKEN or self._last is last:
                    raise
            else:
                return

    def _open(self) -> Iterator[pb.StreamLogsResponse]:
        self._hidden = self._wanted.follow and self._wanted.tail == 0 and self._last is None
        return self._observer.StreamLogs(self._request(follow=False))

    def _open_following(self) -> Iterator[pb.StreamLogsResponse]:
        return self._observer.StreamLogs(self._request(follow=True))

    def _request(self, *, follow: bool) -> pb.StreamLogsRequest:
        wanted = self._wanted
        request = pb.StreamLogsRequest(
            bot_id=wanted.bot_id,
            follow=follow,
            max_batch_entries=_MAX_BATCH_ENTRIES,
        )
        if self._last is not None and self._last.cursor:
            request.after_cursor = self._last.cursor
        elif (after := wanted.after if self._last is None else self._last.time) is not None:
            # A service that does not know cursors.
            request.after.CopyFrom(after)
        if self._bytes_left is not None and not self._hidden:
            request.limit_bytes = self._bytes_left
        if not follow and self._last is None and wanted.tail is not None:
            # A tail of 0 reads one entry to learn the cursor to follow from.
            request.tail_lines = max(wanted.tail, 1) if wanted.follow else wanted.tail
        return request


def last_lines(observer: ContainerObserverStub, bot_id: str, count: int) -> list[str]:
    """The last lines that a bot wrote. Empty if they cannot be read."""
    lines: list[str] = []
    continues = False
    request = pb.StreamLogsRequest(bot_id=bot_id, tail_lines=count, max_batch_entries=_MAX_BATCH_ENTRIES)
    try:
        for message in observer.StreamLogs(request, timeout=10):
            for entry in _entries(message):
                text = entry.line.decode("utf-8", "replace")
                if continues:
                    lines[-1] += text
                else:
                    lines.append(text)
                continues = entry.partial
    except grpc.RpcError:
        return lines
    return lines


def _entries(message: pb.StreamLogsResponse) -> Sequence[pb.LogEntry]:
    """The entries of a message. A service that does not know batches sends one at a time, in ``entry``."""
    return message.entries or [message.entry]
