"""How a run can end: the exit codes, and the one failure that commands raise."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import IntEnum
from typing import IO, Any

import click

from botctl.rendering.terminal import colours_on
from botctl.rendering.words import one_line


class ExitCode(IntEnum):
    """The exit codes. Scripts rely on them: a number never changes its meaning."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    NO_SERVICE = 4
    NOT_ALLOWED = 5
    REFUSED = 6
    NOT_NOW = 7
    NOT_WELL = 8
    INTERRUPTED = 130
    PIPE_CLOSED = 141
    TERMINATED = 143


MEANINGS = {
    ExitCode.DONE: "done, for every bot",
    ExitCode.FAILED: "failed in another way, or several bots in different ways",
    ExitCode.USAGE: "the command line is wrong, or the service does not take what it says",
    ExitCode.NOT_FOUND: "no such bot, or it has no container",
    ExitCode.NO_SERVICE: "the service cannot be reached",
    ExitCode.NOT_ALLOWED: "not allowed: the socket's permissions, the token, or the client certificate",
    ExitCode.REFUSED: "refused as things are: a container exists already, its image is missing, its start fails, …",
    ExitCode.NOT_NOW: "not possible at the moment (engine or registry away, bot busy, no answer in time): try again",
    ExitCode.NOT_WELL: "--wait: the bot was started, and ended, is unhealthy, or was not up in time",
    ExitCode.INTERRUPTED: "Ctrl-C",
    ExitCode.PIPE_CLOSED: "whoever read the output has closed it, as head does",
    ExitCode.TERMINATED: "SIGTERM, as timeout sends it",
}


class Failure(click.ClickException):
    """Ends the run with one line on standard error, and an exit code."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(one_line(message))
        self.exit_code: int = code.value  # type: ignore[misc] # click's class has it for all of its kind

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the line."""
        show_error(self.message, file)


def show_error(message: str, file: IO[Any] | None = None) -> None:
    """Write one line about what failed to standard error."""
    stream = file or sys.stderr
    start = click.style("Error:", fg="red", bold=True) if colours_on(stream) else "Error:"
    click.echo(f"{start} {one_line(message)}", file=stream, color=True)


def overall(codes: Iterable[ExitCode]) -> ExitCode:
    """The exit code of a run for several bots: what went wrong, where it is the same for all that failed."""
    failed = {code for code in codes if code is not ExitCode.DONE}
    if not failed:
        return ExitCode.DONE
    return failed.pop() if len(failed) == 1 else ExitCode.FAILED


def exit_codes_help() -> str:
    """The exit codes as ``--help`` shows them."""
    return "\n".join(["\b", "Exit codes:", *(f"  {code:>3}  {meaning}" for code, meaning in MEANINGS.items())])
