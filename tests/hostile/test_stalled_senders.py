"""Senders that stop half-way cost the service little memory, are ended, and delay no other caller."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from container_manager_client import connect
from tests.fuzz.conversations import (
    ACK,
    DATA,
    END_HEADERS,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Call,
    Frame,
    literals,
    prefixed,
)
from tests.support.serving import ServerProcess, server_process
from tests.support.waiting import wait_until

SENDERS = 100
ANNOUNCED_BYTES = 4_000_000
SENT_BYTES = 3_700_000
MOST_GROWTH_BYTES = 160 * 2**20
"""Sixteen requests of 4 MiB, as received and as joined by gRPC, and the memory that allocators keep."""
HEALTH_CHECK = b"/grpc.health.v1.Health/Check"
CREATE = b"/botmaker.container.v1.ContainerManager/CreateContainer"
TRAILERS, CONTINUED_WINDOW = 0x1, 65_535


class StalledSenders:
    """One connection with a hundred calls; each sends most of its request as fast as it may, then stops."""

    def __init__(self, family: int, address: object, path: bytes) -> None:
        self._socket = socket.socket(family)
        self._socket.connect(address)
        self._lock = threading.Condition()
        self._sending = threading.Lock()
        self._window = CONTINUED_WINDOW
        self._windows = dict.fromkeys(range(1, 2 * SENDERS, 2), CONTINUED_WINDOW)
        self._initial = CONTINUED_WINDOW
        self.ended: set[int] = set()
        """The calls that the service has ended."""
        self._path = path
        self._closed = False
        self._threads = [threading.Thread(target=target) for target in (self._read, self._write)]

    def __enter__(self) -> Self:
        self._send(PREFACE + Frame(SETTINGS).encoded())
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed = True
            self._lock.notify_all()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._socket.close()

    def _write(self) -> None:
        call = Call(self._path, b"")
        # The caller sets no deadline.
        headers = literals([header for header in call.headers() if header[0] != b"grpc-timeout"])
        body = prefixed(b"\0" * SENT_BYTES, length=ANNOUNCED_BYTES)
        sent = dict.fromkeys(self._windows, 0)
        with contextlib.suppress(OSError):
            for stream in sent:
                self._send(Frame(HEADERS, END_HEADERS, stream, headers).encoded())
            while not self._closed:
                with self._lock:
                    open_streams = [each for each in sent if each not in self.ended and sent[each] < len(body)]
                    ready = [each for each in open_streams if self._windows[each] > 0]
                    if not ready or self._window <= 0:
                        self._lock.wait(1)
                        continue
                    stream = min(ready, key=lambda each: sent[each])
                    size = min(16_384, self._window, self._windows[stream], len(body) - sent[stream])
                    self._window -= size
                    self._windows[stream] -= size
                self._send(Frame(DATA, 0, stream, body[sent[stream] : sent[stream] + size]).encoded())
                sent[stream] += size

    def _read(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                head = self._exactly(9)
                length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
                stream = int.from_bytes(head[5:], "big")
                payload = self._exactly(length)
                with self._lock:
                    self._take(kind, flags, stream, payload)
                    self._lock.notify_all()

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE:
            (more,) = struct.unpack(">I", payload)
            if stream:
                self._windows[stream] += more
            else:
                self._window += more
        elif kind == SETTINGS and not flags & ACK:
            for offset in range(0, len(payload), 6):
                name, value = struct.unpack(">HI", payload[offset : offset + 6])
                if name == 4:
                    self._windows = {each: window + value - self._initial for each, window in self._windows.items()}
                    self._initial = value
            self._send(Frame(SETTINGS, ACK).encoded())
        elif kind == PING and not flags & ACK:
            self._send(Frame(PING, ACK, 0, payload).encoded())
        elif (kind == HEADERS and flags & TRAILERS) or kind == RST_STREAM:
            self.ended.add(stream)

    def _send(self, data: bytes) -> None:
        # Whole frames, from either thread.
        with self._sending:
            self._socket.sendall(data)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data


@pytest.fixture
def server(session_dir: Path, tmp_path: Path) -> Iterator[ServerProcess]:
    """The service on both kinds of listeners, without an engine: it can receive requests without one."""
    (tmp_path / "secrets").mkdir(mode=0o711)
    arguments = ["--listen", f"unix://{session_dir}/stalled/s.sock", "--listen", "tcp://127.0.0.1:0"]
    arguments += ["--secrets-root", str(tmp_path / "secrets"), "--token-file", str(tmp_path / "token")]
    arguments += ["--docker-host", f"unix://{tmp_path}/none.sock", "--drain-seconds", "20"]
    with server_process(arguments, tmp_path / "log") as process:
        yield process


def memory(server: ServerProcess) -> int:
    """The peak of the process's resident bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def senders(server: ServerProcess, listener: str, path: bytes) -> StalledSenders:
    unix, tcp = server.line.split()[-2:]
    if listener == "unix":
        return StalledSenders(socket.AF_UNIX, unix.removeprefix("unix://"), path)
    host, port = tcp.removeprefix("tcp://").split(":")
    return StalledSenders(socket.AF_INET, (host, int(port)), path)


@pytest.mark.parametrize(
    ("listener", "path"), [("unix", CREATE), ("tcp", HEALTH_CHECK)], ids=["create", "health without a token"]
)
def test_a_hundred_stalled_senders_cost_little_memory_and_end_by_themselves(
    server: ServerProcess, listener: str, path: bytes
) -> None:
    unix = server.line.split()[-2]
    with connect(unix) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        health.Check(health_pb2.HealthCheckRequest(), timeout=30)
        before = memory(server)
        with senders(server, listener, path) as stalled:
            # Other callers are served meanwhile.
            wait_until(lambda: health.Check(health_pb2.HealthCheckRequest(), timeout=30) is not None, "health answers")
            wait_until(lambda: len(stalled.ended) == SENDERS, "the service has ended every stalled call")
        assert memory(server) - before < MOST_GROWTH_BYTES
        health.Check(health_pb2.HealthCheckRequest(), timeout=30)


def test_a_stalled_sender_does_not_hold_up_a_shutdown(server: ServerProcess) -> None:
    """The 20 s of the drain are not spent: the first signal ends all reception."""
    unix = server.line.split()[-2]
    with senders(server, "unix", CREATE) as stalled:
        with connect(unix) as channel:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
        server.terminate()
        wait_until(lambda: len(stalled.ended) == SENDERS, "the service has ended every stalled call", 10)
        assert 0 == server.wait(10)


def test_health_watchers_of_one_listener_do_not_shut_out_those_of_another(
    server: ServerProcess, tmp_path: Path
) -> None:
    unix, tcp = server.line.split()[-2:]
    request = health_pb2.HealthCheckRequest()
    with connect(tcp) as anonymous, connect(unix) as ours:
        watches = [health_pb2_grpc.HealthStub(anonymous).Watch(request) for _ in range(256)]
        for watch in watches:
            next(watch)
        with pytest.raises(grpc.RpcError) as refused:
            next(health_pb2_grpc.HealthStub(anonymous).Watch(request))
        assert grpc.StatusCode.RESOURCE_EXHAUSTED is refused.value.code()
        watch = health_pb2_grpc.HealthStub(ours).Watch(request)
        next(watch)
        for each in [*watches, watch]:
            each.cancel()
