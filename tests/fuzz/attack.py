"""Hostile connections to a running service, and the invariants that it must keep during and after them."""

from __future__ import annotations

import random
import re
import selectors
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager_client import connect
from tests.fuzz.conversations import BOT_ID, calls, with_token
from tests.fuzz.mutator import Mutator
from tests.support.serving import ServerProcess, server_process
from tests.support.waiting import wait_until

TOKEN = "the-token-of-the-fuzzer-0123456789"
CONNECTIONS_A_BATCH = 100
AT_ONCE = 25
PROMPT_SECONDS = 2.0
# Memory that allocators keep for reuse grows with each new worker (measured: 25 MB after 20,000 connections, and no
# growth after that); a leaked connection would cost 20 kB.
SLACK_BYTES = 50_000_000
# Workers and connections to the engine are kept for reuse.
SPARE = 64
_READ_SECONDS = 0.1
_SEND_SECONDS = 1.0
# The service's own notices, and its warnings about callers that send nonsense.
_EXPECTED = re.compile(
    r"\S+Z \[(?:info|debug) +\] .* \[container_manager\..*"
    r"|\S+Z \[warning +\] refused calls without a valid token .*"
    r"|\S+Z \[warning +\] callers sent headers that are not UTF-8 .*"
)


class InvariantError(AssertionError):
    """The service broke an invariant; ``str()`` says which, and how to reproduce it."""


@dataclass
class Attack:
    """One service under attack."""

    process: ServerProcess
    unix_path: Path
    tcp: tuple[str, int]
    stub: ContainerManagerStub
    seed: int
    slowest_seconds: float = 0.0
    connections: int = 0
    _held: list[socket.socket] = field(default_factory=list)

    def batch(self, number: int) -> None:
        """Open a hundred hostile connections, determined by the seed and the number; then make a normal call."""
        source = f"{self.seed} {number}"
        draw = random.Random(source)
        known = calls()
        mutator = Mutator(source, [*known, *(with_token(call, TOKEN) for call in known)])
        try:
            for _ in range(CONNECTIONS_A_BATCH // AT_ONCE):
                self._volley([mutator.connection() for _ in range(AT_ONCE)], draw)
            self.assert_alive()
        except AssertionError as exc:
            raise InvariantError(f"{exc}; again with: --seed {self.seed} --first {number} --batches 1") from exc
        finally:
            for each in self._held:
                each.close()
            self._held.clear()

    def log_problems(self) -> list[str]:
        """Unexpected lines of the log."""
        return [line for line in self.process.log_text().splitlines() if not _EXPECTED.fullmatch(line)]

    def ending(self) -> str:
        """Whether the process runs, and the end of its log."""
        return f"exit status {self.process.process.poll()}; its log: {self.process.log_text()[-3000:]}"

    def descriptors(self) -> int:
        """The number of file descriptors that the process has open."""
        return len(list(Path(f"/proc/{self.process.process.pid}/fd").iterdir()))

    def threads(self) -> int:
        """The number of its threads."""
        return len(list(Path(f"/proc/{self.process.process.pid}/task").iterdir()))

    def memory(self) -> int:
        """Its resident bytes."""
        return int(Path(f"/proc/{self.process.process.pid}/statm").read_text().split()[1]) * 4096

    def _volley(self, hostile: Sequence[bytes], draw: random.Random) -> None:
        opened = []
        for data in hostile:
            connection = self.connected(unix=draw.random() < 0.5)
            opened.append(connection)
            # The service may close the connection before everything is sent, as it should.
            with suppress(OSError):
                cut = draw.randint(0, len(data)) if draw.random() < 0.3 else len(data)
                connection.sendall(data[:cut])
                connection.sendall(data[cut:])
                if draw.random() < 0.2:
                    connection.shutdown(socket.SHUT_WR)
        _read(opened)
        for connection in opened:
            self._leave(connection, draw)
        self.connections += len(opened)

    def connected(self, *, unix: bool) -> socket.socket:
        """A connection to one of its listeners."""
        connection = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        connection.settimeout(_SEND_SECONDS)
        try:
            connection.connect(str(self.unix_path) if unix else self.tcp)
        except OSError as exc:
            connection.close()
            raise AssertionError(f"no connection: {exc}; {self.ending()}") from exc
        return connection

    def _leave(self, connection: socket.socket, draw: random.Random) -> None:
        how = draw.random()
        if how < 0.2:
            self._held.append(connection)
            return
        if how < 0.4:
            # Closes with a reset, in the middle of any exchange.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    def assert_alive(self) -> None:
        """The service runs, answers promptly, and has logged nothing unexpected."""
        assert self.process.process.poll() is None, self.ending()
        begun = time.monotonic()
        try:
            answer = self.stub.GetContainerStatus(pb.GetContainerStatusRequest(bot_id=BOT_ID), timeout=PROMPT_SECONDS)
        except grpc.RpcError as exc:
            raise AssertionError(f"a status call failed: {exc}") from exc
        assert not answer.HasField("status")
        self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - begun)
        problems = self.log_problems()
        assert [] == problems, "the log shows more than calls: " + "\n".join(problems)[-5000:]


@contextmanager
def attack(
    engine_url: str,
    secrets_root: Path,
    directory: Path,
    seed: int,
    *,
    token: str = TOKEN,
    further: Sequence[str] = (),
) -> Iterator[Attack]:
    """A new service on both kinds of listeners, with its log in ``directory`` and with ``further`` options."""
    token_file = directory / "token"
    token_file.write_text(token)
    token_file.chmod(0o600)
    path = directory / "run" / "s.sock"
    arguments = ["--listen", f"unix://{path}", "--listen", "tcp://127.0.0.1:0", "--token-file", str(token_file)]
    arguments += ["--docker-host", engine_url, "--secrets-root", str(secrets_root), "--pull", "never", *further]
    with server_process(arguments, directory / "log") as process, connect(f"unix://{path}") as channel:
        host, _, port = process.line.rpartition("tcp://")[2].rpartition(":")
        attacked = Attack(process, path, (host, int(port)), ContainerManagerStub(channel), seed)
        attacked.stub.ListManagedContainers(pb.ListManagedContainersRequest(), timeout=30)
        yield attacked
        if process.process.poll() is None:
            process.terminate()
            assert 0 == process.wait()


def run(attacked: Attack, numbers: Iterator[int], seconds: float) -> int:
    """Run batches until the time or the numbers run out; return their count. Nothing of them may be left then."""
    ends = time.monotonic() + seconds
    # The first batch creates what is created only once.
    attacked.batch(next(numbers))
    done, memory = 1, 0
    descriptors = _settled(attacked)
    threads = attacked.threads()
    for number in numbers:
        attacked.batch(number)
        done += 1
        if done == 5:
            memory = attacked.memory()
        if time.monotonic() > ends:
            break
    wait_until(lambda: attacked.descriptors() <= descriptors + SPARE, f"{descriptors} descriptors as before")
    wait_until(lambda: attacked.threads() <= threads + SPARE, f"{threads} threads as before")
    if memory:
        grown = attacked.memory() - memory
        assert grown < SLACK_BYTES, f"{grown} bytes more than after the first batches"
    return done


def _settled(attacked: Attack) -> int:
    """The number of descriptors, after those of closed connections are gone."""
    seen = [attacked.descriptors()]

    def steady() -> bool:
        time.sleep(0.2)
        seen.append(attacked.descriptors())
        return seen[-1] == seen[-2]

    wait_until(steady, "closed connections are gone")
    return seen[-1]


def _read(connections: Sequence[socket.socket]) -> None:
    """Read for a moment: the service stops serving a connection that does not read."""
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ)
        ends = time.monotonic() + _READ_SECONDS
        while selector.get_map() and time.monotonic() < ends:
            for key, _ in selector.select(0.02):
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                try:
                    more = bool(connection.recv(1 << 18))
                except OSError:
                    more = False
                if not more:
                    selector.unregister(connection)
