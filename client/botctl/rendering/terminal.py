"""Terminals and pipes: where there are colours, and how wide a line may be."""

from __future__ import annotations

import os
from typing import IO, Any, NoReturn

from rich.console import Console

# A pipe's reader gets each row on one line, however long.
_PIPE_WIDTH = 10_000


class _Console(Console):
    """One that leaves a closed pipe to the program, which knows the exit code for it."""

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


def console(stream: IO[Any]) -> Console:
    """A console on a stream: colours on terminals alone, and nothing in a text is taken for markup."""
    terminal = is_terminal(stream)
    return _Console(
        file=stream,
        force_terminal=terminal,
        # With none, also bold and dim are left out.
        color_system="auto" if colours_on(stream) else None,
        width=None if terminal else _PIPE_WIDTH,
        markup=False,
        highlight=False,
        emoji=False,
    )


def is_terminal(stream: IO[Any]) -> bool:
    """Whether a person looks at it."""
    return not stream.closed and stream.isatty()


def is_live(console_: Console) -> bool:
    """Whether lines can be written anew, for spinners and live tables."""
    return console_.is_terminal and not console_.is_dumb_terminal


def colours_on(stream: IO[Any]) -> bool:
    """Whether to colour: on a terminal that can, unless ``NO_COLOR`` is set (no-color.org)."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
