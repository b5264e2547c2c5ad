"""Contents that a command sends: each from a file or from standard input, never from the command line.

Other users of the machine can read the command lines of its processes, and shells keep them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from botctl.exit_codes import ExitCode, Failure
from botctl.input_files import read_input_file

STDIN = "-"
_INSTEAD = "write NAME=@FILE, or NAME=@- for standard input; a content never goes on the command line"
MOST_BYTES = 3 * 1024 * 1024
"""The service takes no more in one call."""

Source = tuple[str, str]
"""A name, and the file that holds its content."""


class _SourceType(click.ParamType):  # type: ignore[type-arg] # older ones have no parameter
    """``NAME=@FILE``, or ``NAME=@-`` for standard input."""

    name = "NAME=@FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Source:
        if not isinstance(value, str):
            return tuple(value)
        name, separator, file = value.partition("=@")
        if not name or not separator or not file:
            # The text may hold a secret, so it is not repeated.
            self.fail(_INSTEAD, param, ctx)
        return name, file


SOURCE = _SourceType()


def read_contents(sources: Sequence[Source]) -> dict[str, bytes]:
    """The content of each source by its name. Raises :class:`Failure`."""
    names = [name for name, _ in sources]
    for name in names:
        if names.count(name) > 1:
            raise Failure(f"{name!r} is given twice", ExitCode.USAGE)
    if [file for _, file in sources].count(STDIN) > 1:
        raise Failure("only one content can come from standard input", ExitCode.USAGE)
    contents = {name: _read_stdin() if file == STDIN else _read_file(file) for name, file in sources}
    if sum(map(len, contents.values())) > MOST_BYTES:
        raise Failure("these are more than 3 MiB, the most for one call; use several", ExitCode.USAGE)
    return contents


def _read_stdin() -> bytes:
    if sys.stdin.isatty():
        raise Failure(
            "standard input is a terminal, which would show the content; use a pipe or a file", ExitCode.USAGE
        )
    content = sys.stdin.buffer.read(MOST_BYTES + 1)
    if not content:
        # As from a pipe whose first program has failed.
        raise Failure("standard input is empty; an empty content can come from a file", ExitCode.USAGE)
    return content


def _read_file(name: str) -> bytes:
    path = Path(name)
    if path.is_file() and path.stat().st_size > MOST_BYTES:
        raise Failure(f"{name} has more than 3 MiB, the most for one call", ExitCode.USAGE)
    return read_input_file("file", name, instead="write NAME=@FILE, or NAME=@- for standard input")
