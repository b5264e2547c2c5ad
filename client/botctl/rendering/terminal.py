"""What a stream is: a terminal, one with colours. Without rich, which takes a quarter of a command's start."""

from __future__ import annotations

import os
from typing import IO, Any


def is_terminal(stream: IO[Any]) -> bool:
    """Whether the stream is a terminal."""
    return not stream.closed and stream.isatty()


def colours_on(stream: IO[Any]) -> bool:
    """Whether to use colours: on a capable terminal, unless ``NO_COLOR`` is set (no-color.org)."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
