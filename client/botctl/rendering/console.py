"""Consoles for terminals and pipes: colours and line width."""

from __future__ import annotations

from typing import IO, Any, NoReturn

from rich.console import Console

from botctl.rendering.terminal import colours_on, is_terminal

# In a pipe each row is one line, however long.
_PIPE_WIDTH = 10_000


class _Console(Console):
    """A console that lets the program handle a closed pipe, which has its own exit code."""

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


def console(stream: IO[Any]) -> Console:
    """A console for a stream, with colours on terminals only and without markup."""
    terminal = is_terminal(stream)
    return _Console(
        file=stream,
        force_terminal=terminal,
        # Without colours, bold and dim are off too.
        color_system="auto" if colours_on(stream) else None,
        width=None if terminal else _PIPE_WIDTH,
        markup=False,
        highlight=False,
        emoji=False,
    )


def is_live(console_: Console) -> bool:
    """Whether the console can update lines, as spinners and live tables do."""
    return console_.is_terminal and not console_.is_dumb_terminal
