"""Clients that read a container's whole log, each for a process of its own; all return entries, bytes and seconds."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from bench.candidates import bare_channel
from bench.engine_http import RawEngine
from bench.http2_streams import Streams
from container_manager.model import container_name

LOGS_METHOD = "/botmaker.container.v1.ContainerObserver/StreamLogs"
POUR_METHOD = "/bench.Echo/Pour"
_READ_SECONDS = 120.0


class Reading(NamedTuple):
    """What was read."""

    entries: int
    size: int
    """Bytes, as they came to the reader."""
    seconds: float


class RawReader:
    """The engine's own bytes, in which only newlines are counted."""

    def __init__(self, docker_host: str) -> None:
        self._docker_host = docker_host

    def read(self, bot_id: str) -> Reading:
        entries = size = 0
        begun = time.perf_counter()
        with closing(RawEngine(self._docker_host)) as engine:
            for data in engine.log(container_name(bot_id)):
                entries += data.count(b"\n")
                size += len(data)
        return Reading(entries, size, time.perf_counter() - begun)


class SdkReader:
    """``logs(stream=True)`` of the docker SDK, with times."""

    def __init__(self, docker_host: str) -> None:
        import docker

        self._client = docker.DockerClient(base_url=docker_host, version="auto", timeout=120)

    def read(self, bot_id: str) -> Reading:
        entries = size = 0
        container = self._client.containers.get(container_name(bot_id))
        begun = time.perf_counter()
        for line in container.logs(stream=True, follow=False, timestamps=True):
            entries += 1
            size += len(line)
        return Reading(entries, size, time.perf_counter() - begun)


class StubReader:
    """``StreamLogs`` by a generated stub."""

    def __init__(self, target: str) -> None:
        from botmaker.container.v1 import container_observer_pb2 as pb
        from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub

        self._pb = pb
        self._stub = ContainerObserverStub(bare_channel(target))

    def read(self, bot_id: str) -> Reading:
        entries = size = 0
        begun = time.perf_counter()
        for response in self._stub.StreamLogs(self._pb.StreamLogsRequest(bot_id=bot_id)):
            entries += 1
            size += len(response.entry.line)
        return Reading(entries, size, time.perf_counter() - begun)


class FrameReader:
    """``StreamLogs`` by frames alone (``bench.http2_streams``)."""

    def __init__(self, socket: str) -> None:
        self._socket = Path(socket)
        self._unread: list[Streams] = []

    def read(self, bot_id: str) -> Reading:
        return self._read(LOGS_METHOD, _request(bot_id, follow=False))

    def pour(self, entries: int) -> Reading:
        """Of the empty service, so many of what it has (``bench.echo_service``)."""
        return self._read(POUR_METHOD, str(entries).encode())

    def open_unread(self, bot_id: str, count: int) -> None:
        """Open so many following streams, of which nothing is read, not even from the socket."""
        streams = Streams(self._socket, lambda _stream, _message: None)
        streams.open(LOGS_METHOD, _request(bot_id, follow=True), connections=count, each=1)
        self._unread.append(streams)

    def _read(self, method: str, request: bytes) -> Reading:
        sizes: list[int] = []
        begun = time.perf_counter()
        streams = Streams(self._socket, lambda _stream, message: sizes.append(len(message)))
        streams.open(method, request, connections=1, each=1)
        streams.read(lambda: bool(streams.ended), _READ_SECONDS)
        seconds = time.perf_counter() - begun
        streams.close()
        return Reading(len(sizes), sum(sizes), seconds)


def _request(bot_id: str, *, follow: bool) -> bytes:
    from botmaker.container.v1 import container_observer_pb2 as pb

    return pb.StreamLogsRequest(bot_id=bot_id, follow=follow).SerializeToString()
