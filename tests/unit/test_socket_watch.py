"""A deleted socket is bound again, another program's is left alone, and a failure is logged once and retried."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from container_manager.errors import StartupError
from container_manager.sockets import watch as socket_watch
from container_manager.sockets.binding import unix_socket_path
from container_manager.sockets.watch import SocketWatch


class Listening:
    """A path with our listener, and one more listener for each time that it was bound again."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.path = path
        self.stack = stack
        self.held = stack.enter_context(unix_socket_path(path))
        self.problems: list[Exception] = []
        self.times = 0
        self.listen()
        self.held.bound()

    def listen(self) -> None:
        listener = self.stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
        listener.bind(str(self.path))
        listener.listen()
        self.times += 1

    async def bind(self) -> None:
        if self.problems:
            raise self.problems.pop(0)
        self.listen()


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listening]:
    """Our socket, checked every millisecond."""
    monkeypatch.setattr(socket_watch, "CHECK_INTERVAL_SECONDS", 0.001)
    with tempfile.TemporaryDirectory(prefix="watch-") as name, ExitStack() as stack:
        yield Listening(Path(name) / "cm.sock", stack)


def watched(ours: Listening, story: Callable[[], Awaitable[None]]) -> list[str]:
    """Run the story while the watch runs; returns the problems that it logged."""

    async def run() -> None:
        watch = asyncio.create_task(SocketWatch(ours.held, ours.bind).run())
        await story()
        assert not watch.done()
        watch.cancel()

    with capture_logs() as logs:
        asyncio.run(run())
    return [entry["problem"] for entry in logs if entry["log_level"] == "error" and "problem" in entry]


async def until(condition: Callable[[], object]) -> None:
    """Wait for the condition, and let the watch check meanwhile."""
    for _ in range(60_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("not within some seconds")


async def some_looks() -> None:
    """Wait until the watch has checked a few times."""
    for _ in range(20):
        await asyncio.sleep(0.001)


def test_a_socket_that_is_there_is_never_bound_anew(ours: Listening) -> None:
    assert [] == watched(ours, some_looks)
    assert ours.times == 1


def test_each_deletion_is_followed_by_a_new_socket(ours: Listening) -> None:
    async def story() -> None:
        for times in (2, 3):
            ours.path.unlink()
            await until(lambda times=times: ours.times == times and ours.held.leads_here)

    assert [] == watched(ours, story)


def test_anothers_live_socket_is_left_alone_told_once_and_followed_when_it_ends(ours: Listening) -> None:
    async def story() -> None:
        ours.path.unlink()
        with closing(socket.socket(socket.AF_UNIX)) as other:
            other.bind(str(ours.path))
            other.listen()
            await some_looks()
            assert ours.times == 1
        await until(lambda: ours.held.leads_here)

    problems = watched(ours, story)
    assert [f"{ours.path} is in use: another program answers there"] == problems


@pytest.mark.parametrize("problem", [StartupError("no"), OSError("no"), RuntimeError("a bug")])
def test_whatever_keeps_it_from_listening_is_tried_again(ours: Listening, problem: Exception) -> None:
    async def story() -> None:
        ours.problems += [problem, problem]
        ours.path.unlink()
        await until(lambda: ours.held.leads_here)

    assert ["RuntimeError" if isinstance(problem, RuntimeError) else "no"] == watched(ours, story)
