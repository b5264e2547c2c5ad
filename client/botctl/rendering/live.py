"""What moves on a terminal: the spinner of something under way, and tables that are written anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from botctl.rendering.terminal import is_live

_PER_SECOND = 4
# The table's head, the line below it, and the prompt that comes after.
_OTHER_LINES = 4


@contextmanager
def spinner(console: Console, text: str) -> Iterator[Callable[[str], None]]:
    """A spinner with a text while the block runs, on a terminal alone; yields what changes the text."""
    if not is_live(console):
        yield lambda _: None
        return
    with console.status(Text(text)) as status:
        yield lambda new: status.update(Text(new))


@contextmanager
def live_table(console: Console, render: Callable[[int], tuple[RenderableType, str]]) -> Iterator[None]:
    """A table that is written anew while the block runs.

    ``render`` makes it, with so many rows at most, and the line below it.
    """

    def rendered() -> RenderableType:
        table, line = render(max(console.height - _OTHER_LINES, 1))
        return Group(table, Text(line, style="dim"))

    # What is printed meanwhile appears above it.
    with Live(console=console, get_renderable=rendered, refresh_per_second=_PER_SECOND, vertical_overflow="crop"):
        yield
