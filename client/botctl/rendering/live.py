"""Spinners and self-updating tables on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from botctl.rendering.console import is_live

_PER_SECOND = 4
# The header of the table, the line below it, and the prompt after it.
_OTHER_LINES = 4


@contextmanager
def spinner(console: Console, text: str) -> Iterator[Callable[[str], None]]:
    """Shows a spinner with a text while the block runs, on terminals only. Yields a function that changes the text."""
    if not is_live(console):
        yield lambda _: None
        return
    with console.status(Text(text)) as status:
        yield lambda new: status.update(Text(new))


@contextmanager
def live_table(console: Console, render: Callable[[int], tuple[RenderableType, str]]) -> Iterator[None]:
    """Updates a table while the block runs.

    ``render`` takes the maximum number of rows, and returns the table and the line below it.
    """

    def rendered() -> RenderableType:
        table, line = render(max(console.height - _OTHER_LINES, 1))
        return Group(table, Text(line, style="dim"))

    # Other output appears above the table.
    with Live(console=console, get_renderable=rendered, refresh_per_second=_PER_SECOND, vertical_overflow="crop"):
        yield
