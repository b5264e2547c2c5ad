"""Decodes a long JSON array item by item, so that the caller can pause."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_SPACE = re.compile(r"[ \t\n\r]*")
_decode = json.JSONDecoder().raw_decode


def json_items(text: str) -> Iterator[Any]:
    """The items of a JSON array. Raises :class:`ValueError` for anything else."""
    position = _after_space(text, 0)
    separator, ends = "[", False
    while not ends:
        if text[position : position + 1] != separator:
            raise ValueError("not a JSON array")
        position = _after_space(text, position + 1)
        if separator == "[" and text[position : position + 1] == "]":
            break
        item, position = _decode(text, position)
        yield item
        position = _after_space(text, position)
        separator, ends = ",", text[position : position + 1] == "]"
    if _after_space(text, position + 1) < len(text):
        raise ValueError("more than a JSON array")


def _after_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return position if match is None else match.end()
