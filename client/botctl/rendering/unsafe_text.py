"""Characters of bots, callers and engines that a terminal obeys, or that reorder what it shows."""

from __future__ import annotations

import re

# The control characters C0 and C1, marks that reorder text, line and paragraph separators, and halves of surrogate
# pairs. The server escapes the same ones.
UNSAFE = r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
"""A regular expression."""

_unsafe = re.compile(UNSAFE)
_unsafe_in_json = re.compile(rf"(?!\n){UNSAFE}")


def printable(text: str) -> str:
    """The text with visible unsafe characters, so that texts of bots and engines cannot control the terminal."""
    return _unsafe.sub(lambda found: visible(found[0]), text)


def visible(character: str) -> str:
    r"""Such as ``\x1b`` or ``\u202e``, as Python writes the character."""
    return ascii(character)[1:-1]


def printable_json(text: str) -> str:
    """The same document, with escapes for unsafe characters in its strings."""
    return _unsafe_in_json.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
