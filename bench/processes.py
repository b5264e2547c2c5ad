"""Processes of a run: the service, and children that play clients or serve. No two of them share an interpreter lock.

In a smoke run the children are threads, which start at once.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Self

CHECKOUT = Path(__file__).resolve().parent.parent
_START_SECONDS = 60
_STOP_SECONDS = 40


class ProcessError(Exception):
    """The run cannot go on; the message says why."""


class Program:
    """A running program; a context manager. It serves when the constructor returns.

    It says so by a line with the word "serving" on its standard output.
    """

    def __init__(self, socket: Path, command: Sequence[str]) -> None:
        """``socket``: the path of the socket that it serves on. Its standard error goes to a file beside."""
        self.target = f"unix://{socket}"
        log = socket.with_name("log")
        self.spawned = time.monotonic()
        """``time.monotonic()`` just before the process was made."""
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=file,
                cwd=CHECKOUT,
                # Ctrl-C is for this process, which stops the others in their order.
                start_new_session=True,
            )
        try:
            line = self._first_line()
        except BaseException:
            self.__exit__()
            raise
        if "serving" not in line:
            self.__exit__()
            raise ProcessError(f"the service does not serve: {line} {log.read_text(errors='replace').strip()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Send SIGTERM, and wait until it has finished what it was doing."""
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def rss_bytes(self) -> int:
        """Its resident memory, shared libraries included (proc(5), smaps_rollup)."""
        text = Path(f"/proc/{self._process.pid}/smaps_rollup").read_text()
        return 1024 * int(text.split("Rss:")[1].split()[0])

    def cpu_seconds(self) -> float:
        """CPU time that it has used so far, in steps of a hundredth of a second (proc(5), stat)."""
        # Counted from behind the command's name, which may hold spaces: utime and stime are the fields 14 and 15.
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _first_line(self) -> str:
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], _START_SECONDS)
        return str(self._process.stdout.readline().decode().strip()) if readable else ""


class Child:
    """A process with one object, whose methods this process calls, one at a time. A context manager."""

    target = ""
    """The address of the server that it is, if it is one."""

    def __init__(self, make: Callable[..., Any], *arguments: Any, thread: bool = False) -> None:
        """The child calls ``make(*arguments)``; all must be picklable. ``thread``: not a process, but a thread."""
        self._pool: Executor = (
            ThreadPoolExecutor(1, "child", _make, (make, arguments))
            if thread
            else ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _make, (make, arguments))
        )
        # Until it is ready.
        self._pool.submit(int).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def begin(self, method: str, *arguments: Any) -> Future[Any]:
        """Start a call."""
        return self._pool.submit(_call, method, arguments)

    def call(self, method: str, *arguments: Any) -> Any:
        """Call the method: its result, or what it raises, with the child's traceback."""
        return self.begin(method, *arguments).result()


class Server:
    """An ``asyncio`` server on a thread of its own, for a :class:`Child`. It serves when the constructor returns."""

    def __init__(self, socket: str) -> None:
        """``socket``: the path of the unix socket that it serves on."""
        self.loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(socket, started))
        self._thread.start()
        started.result()

    def serving(self, socket: str) -> AbstractAsyncContextManager[None]:
        """Serve as long as it is entered."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop serving."""
        self.loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    def _run(self, socket: str, started: Future[None]) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self._serve(socket, started))

    async def _serve(self, socket: str, started: Future[None]) -> None:
        try:
            async with self.serving(socket):
                started.set_result(None)
                await self._ended.wait()
        except BaseException as exc:
            if started.done():
                raise
            started.set_exception(exc)


_here = threading.local()


def _make(make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    if threading.current_thread() is threading.main_thread():
        # Ctrl-C reaches the whole process group, and is for the parent.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    _here.served = make(*arguments)


def _call(method: str, arguments: tuple[Any, ...]) -> Any:
    return getattr(_here.served, method)(*arguments)
