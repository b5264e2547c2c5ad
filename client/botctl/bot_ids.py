"""Bot ids as they are typed: whole, or so much of one's beginning that no other begins so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from botctl.outcomes import ExitCode, Failure

_WHOLE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_BEGINNING = re.compile(r"[0-9a-f-]{1,36}")
_NAMED = 5


def is_bot_id(text: str) -> bool:
    """Whether it is a whole id."""
    return _WHOLE.fullmatch(text) is not None


def new_bot_id(text: str) -> str:
    """The id of a bot to be made, which no beginning can stand for. Raises :class:`Failure`."""
    bot_id = text.lower()
    if not is_bot_id(bot_id):
        raise Failure(
            f"{text!r} is no bot id: a new bot needs a whole one, a UUID as uuidgen makes them", ExitCode.USAGE
        )
    return bot_id


def whole_ids(given: Sequence[str], known: Iterable[str]) -> list[str]:
    """The ids that were meant, each once; a whole one is taken as it is, known or not. Raises :class:`Failure`."""
    candidates = sorted({bot_id for bot_id in known if bot_id})
    return list(dict.fromkeys(_whole_id(text, candidates) for text in given))


def _whole_id(text: str, candidates: list[str]) -> str:
    beginning = text.lower()
    if is_bot_id(beginning):
        return beginning
    # An empty one would mean any bot: a script's unset variable must not remove one.
    if not _BEGINNING.fullmatch(beginning):
        raise Failure(f"{text!r} is no bot id, nor the beginning of one: botctl list shows them", ExitCode.USAGE)
    found = [bot_id for bot_id in candidates if bot_id.startswith(beginning)]
    if not found:
        raise Failure(f"no bot's id begins with {text!r}: botctl list shows those there are", ExitCode.NOT_FOUND)
    if len(found) > 1:
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise Failure(f"{text!r} could be {', '.join(found[:_NAMED])}{more}: write more of it", ExitCode.USAGE)
    return found[0]
