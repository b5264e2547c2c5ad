"""Following a log during random events: every line arrives once."""

from __future__ import annotations

import asyncio
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
        self.written = 0
        self.got: list[bytes] = []
        run(self._run())

    async def _run(self) -> None:
        draw = self._draw
        self._engine = engine = LogEngine()
        engine.chunk_bytes = draw.choice((7, 100, 65_536))
        async with reading(engine, FOLLOW) as it:
            await engine.until(lambda: followed(engine) == 1)
            for _ in range(draw.randint(1, 25)):
                await self._step()
                await asyncio.sleep(draw.choice((0, 0.01, 0.2, 3)))
            engine.cuts, engine.deaf, engine.lost, engine.runs = [], False, False, True
            await engine.end_streams()
            await engine.change()
            await it.has(self.written)
            await asyncio.sleep(60)
            self.got = texts(it.got)

    async def _step(self) -> None:
        draw, engine = self._draw, self._engine
        verb = draw.choice(("write", "write", "write", "stop", "start", "lose", "back", "end", "cut", "deaf", "change"))
        if verb == "write":
            for _ in range(draw.randint(1, 5)):
                self.written += 1
                await engine.write(raw(self.written * SECOND, b"%d" % self.written))
        elif verb == "stop":
            await engine.stop(told=draw.random() < 0.8)
        elif verb == "start":
            await engine.start()
        elif verb == "lose":
            await engine.lose()
        elif verb == "back":
            await engine.come_back()
        elif verb == "end":
            await engine.end_streams()
        elif verb == "cut":
            engine.cuts.append(draw.randint(0, 300))
        elif verb == "deaf":
            engine.deaf = not engine.deaf
        else:
            await engine.change()


@given(st.integers(0, 2**32))
@settings(max_examples=60, derandomize=True)
def test_whatever_happens_every_line_comes_once_and_in_order(seed: int) -> None:
    story = Story(seed)
    assert [b"%d" % number for number in range(1, story.written + 1)] == story.got
