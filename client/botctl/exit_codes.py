"""The exit codes, and the exception that ends a run with one of them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import IntEnum
from typing import IO, Any

import click

from botctl.rendering.terminal import colours_on


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
    NOT_UP = 8
    INTERRUPTED = 130
    PIPE_CLOSED = 141
    TERMINATED = 143


MEANINGS = {
    ExitCode.DONE: "done, for every bot",
    ExitCode.FAILED: "failed in another way, or several bots in different ways",
    ExitCode.USAGE: "the command line is invalid, or the service rejects a value in it",
    ExitCode.NOT_FOUND: "no such bot, or it has no container",
    ExitCode.NO_SERVICE: "the service cannot be reached",
    ExitCode.NOT_ALLOWED: "not allowed: the socket's permissions, the token, or the client certificate",
    ExitCode.REFUSED: "refused in the current state: container exists already, image missing, start fails, …",
    ExitCode.NOT_NOW: "not possible now (engine or registry unreachable, bot busy, no answer in time): try again",
    ExitCode.NOT_UP: "--wait: the bot was started, but ended, is unhealthy, or was not ready in time",
    ExitCode.INTERRUPTED: "Ctrl-C",
    ExitCode.PIPE_CLOSED: "the reader closed the output, such as head",
    ExitCode.TERMINATED: "SIGTERM, such as from timeout",
}


class Failure(click.ClickException):
    """Ends the run with one line on standard error, and an exit code."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(_one_line(message))
        self.exit_code: int = code.value  # type: ignore[misc] # a class variable in click

    def show(self, file: IO[Any] | None = None) -> None:
        """Writes the line."""
        show_error(self.message, file)


def show_error(message: str, file: IO[Any] | None = None) -> None:
    """Writes an error as one line to standard error."""
    stream = file or sys.stderr
    start = click.style("Error:", fg="red", bold=True) if colours_on(stream) else "Error:"
    click.echo(f"{start} {_one_line(message)}", file=stream, color=True)


def _one_line(message: str) -> str:
    # The words of states come from the generated messages, which a run without an error need not load.
    from botctl.rendering.words import one_line

    return one_line(message)


def overall(codes: Iterable[ExitCode]) -> ExitCode:
    """The exit code of a run for several bots: the code of all failures if it is the same, otherwise 1."""
    failed = {code for code in codes if code is not ExitCode.DONE}
    if not failed:
        return ExitCode.DONE
    return failed.pop() if len(failed) == 1 else ExitCode.FAILED


def exit_codes_help() -> str:
    """The exit codes as ``--help`` shows them."""
    return "\n".join(["\b", "Exit codes:", *(f"  {code:>3}  {meaning}" for code, meaning in MEANINGS.items())])
