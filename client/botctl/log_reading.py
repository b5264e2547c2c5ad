"""Reading a bot's log, also across restarts of the bot and of the service: nothing lost, nothing doubled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from botctl.resuming import resumed
from botmaker.container.v1 import container_observer_pb2 as pb
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub


@dataclass(frozen=True)
class Wanted:
    """Which part of which log."""

    bot_id: str
    follow: bool = False
    tail: int | None = None
    after: Timestamp | None = None
    limit_bytes: int | None = None


class LogReading:
    """One reading; iterate once.

    What there is already is read first, and then what comes, from the last entry's time on. In one go the end of a
    log could not be followed without loss: a stream that breaks before its first entry leaves no place to go on from.
    """

    def __init__(self, observer: ContainerObserverStub, wanted: Wanted, notice: Callable[[str], None]) -> None:
        self._observer = observer
        self._wanted = wanted
        self._notice = notice
        self._last: Timestamp | None = None
        self._bytes_left = wanted.limit_bytes
        # What is asked for only to know its place.
        self._hidden = False

    def __iter__(self) -> Iterator[pb.LogEntry]:
        if not self._wanted.follow:
            yield from self._noted(self._open())
            return
        yield from self._noted(resumed(self._open, self._notice))
        self._hidden = False
        if self._bytes_left == 0:
            return
        try:
            yield from self._noted(resumed(self._open_following, self._notice))
        except grpc.RpcError as exc:
            # It was there a moment ago: removed while the service was away, its log has ended.
            if exc.code() is not grpc.StatusCode.NOT_FOUND:
                raise

    def _noted(self, messages: Iterator[pb.StreamLogsResponse]) -> Iterator[pb.LogEntry]:
        for message in messages:
            self._last = message.entry.time
            if self._hidden:
                continue
            if self._bytes_left is not None:
                self._bytes_left = max(self._bytes_left - len(message.entry.line), 0)
            yield message.entry

    def _open(self) -> Iterator[pb.StreamLogsResponse]:
        self._hidden = self._wanted.follow and self._wanted.tail == 0 and self._last is None
        return self._observer.StreamLogs(self._request(follow=False))

    def _open_following(self) -> Iterator[pb.StreamLogsResponse]:
        return self._observer.StreamLogs(self._request(follow=True))

    def _request(self, *, follow: bool) -> pb.StreamLogsRequest:
        wanted = self._wanted
        request = pb.StreamLogsRequest(bot_id=wanted.bot_id, follow=follow, after=self._last or wanted.after)
        if self._bytes_left is not None and not self._hidden:
            request.limit_bytes = self._bytes_left
        if not follow and self._last is None and wanted.tail is not None:
            # Of nothing at all there is one entry to know the place by.
            request.tail_lines = max(wanted.tail, 1) if wanted.follow else wanted.tail
        return request


def last_lines(observer: ContainerObserverStub, bot_id: str, count: int) -> list[str]:
    """The last lines that a bot wrote; none where they cannot be read."""
    lines: list[str] = []
    goes_on = False
    try:
        for message in observer.StreamLogs(pb.StreamLogsRequest(bot_id=bot_id, tail_lines=count), timeout=10):
            text = message.entry.line.decode("utf-8", "replace")
            if goes_on:
                lines[-1] += text
            else:
                lines.append(text)
            goes_on = message.entry.partial
    except grpc.RpcError:
        return lines
    return lines
