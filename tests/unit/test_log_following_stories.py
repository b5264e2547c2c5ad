"""Following a log during random events, with a clock that is set back and forth: every line arrives once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.virtual_loop import run
from tests.unit.log_engine import SECOND, LogEngine, raw
from tests.unit.log_reading import FOLLOW, followed, reading, texts


class Story:
    """A container that writes numbered lines during random events, and a follower."""

    def __init__(self, seed: int) -> None:
        self._draw = Random(seed)
        self._time_ns = self._received = 0
        self.written: list[bytes] = []
        self.got: list[bytes] = []
        self.gaps = 0
        run(self._run())

    async def _run(self) -> None:
        draw = self._draw
        self._engine = engine = LogEngine()
        engine.chunk_bytes = draw.choice((7, 100, 65_536))
        async with reading(engine, FOLLOW) as it:
            await engine.until(lambda: followed(engine) == 1)
            for _ in range(draw.randint(1, 25)):
                await self._step(len(it.got))
                await asyncio.sleep(draw.choice((0, 0.01, 0.2, 3)))
            engine.cuts, engine.deaf, engine.lost, engine.runs = [], False, False, True
            await engine.end_streams()
            await engine.change()
            await it.has(len(self.written))
            await asyncio.sleep(60)
            self.got = texts(it.got)
            self.gaps = sum(entry.gap for entry in it.got)

    async def _step(self, received: int) -> None:
        draw, engine = self._draw, self._engine
        self._received = received
        verbs: dict[str, Callable[[], Awaitable[None]]] = {
            "write": self._write,
            "stop": lambda: engine.stop(told=draw.random() < 0.8),
            "start": engine.start,
            "lose": engine.lose,
            "come back": engine.come_back,
            "end": engine.end_streams,
            "change": engine.change,
            "repeat": self._repeat,
        }
        verb = draw.choice(("write", "write", "cut", "deaf", "rotate", *verbs))
        if verb == "cut":
            engine.cuts.append(draw.randint(0, 300))
        elif verb == "deaf":
            engine.deaf = not engine.deaf
        elif verb == "rotate":
            # At most up to the entry that was received last.
            engine.drop(draw.randint(0, max(received - engine.dropped - 1, 0)))
        else:
            await verbs[verb]()

    async def _repeat(self) -> None:
        """Let the engine repeat what it has sent last, as 20.10 does after it has begun a new file."""
        engine = self._engine
        if engine.runs and engine.open_streams and not engine.deaf and self._received == engine.written:
            engine.repeated = engine.entries[-self._draw.randint(1, 5) :]
            await engine.change()
            await asyncio.sleep(0.01)
            engine.repeated = []

    async def _write(self) -> None:
        for _ in range(self._draw.choice((1, 2, 5, 150))):
            self._time_ns += self._draw.choice((0, 0, 1, 1000, SECOND, 3600 * SECOND, -1, -SECOND, -3600 * SECOND))
            pieces = self._draw.choice((1, 1, 1, 3))
            for piece in range(1, pieces + 1):
                text = b"%d" % len(self.written)
                self.written.append(text)
                await self._engine.write(raw(self._time_ns, text, partial=piece < pieces))


@given(st.integers(0, 2**32))
@settings(max_examples=60, derandomize=True)
def test_whatever_happens_every_line_comes_once_and_in_order(seed: int) -> None:
    story = Story(seed)
    assert story.written == story.got
    assert 0 == story.gaps
