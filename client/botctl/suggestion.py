"""What somebody who mistyped a word may have meant."""

from __future__ import annotations

from collections.abc import Sequence


def suggestion(word: str, known: Sequence[str]) -> str:
    """``; did you mean …?``, or all the words that are known."""
    return closest(word, known) or f"; use {', '.join(known)}"


def closest(word: str, known: Sequence[str]) -> str:
    """``; did you mean …?``, or nothing."""
    # Loaded by those alone who mistype a word.
    import difflib

    close = difflib.get_close_matches(word.lower(), known, 2, cutoff=0.7)
    return f"; did you mean {' or '.join(close)}?" if close else ""
