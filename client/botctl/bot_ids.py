"""Resolves the bots of the command line: ids, unique prefixes of ids, and host names that only one bot has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from botctl.exit_codes import ExitCode, Failure
from botctl.suggestion import closest

_WHOLE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_PREFIX = re.compile(r"[0-9a-f-]{1,36}")
_MAX_NAMED = 5


def is_bot_id(text: str) -> bool:
    """Whether the text is a whole id."""
    return _WHOLE.fullmatch(text) is not None


def new_bot_id(text: str) -> str:
    """The id of a bot to create, which must be whole. Raises :class:`Failure`."""
    bot_id = text.lower()
    if not is_bot_id(bot_id):
        raise Failure(f"{text!r} is not a bot id: a new bot needs a whole UUID, such as uuidgen prints", ExitCode.USAGE)
    return bot_id


def whole_ids(
    given: Sequence[str], known: Iterable[str], hostnames: Mapping[str, str] = MappingProxyType({})
) -> list[str]:
    """The whole ids, each once. A whole id is accepted even if it is unknown. Raises :class:`Failure`.

    ``hostnames``: those of the known bots, by bot id.
    """
    candidates = sorted({bot_id for bot_id in known if bot_id})
    return list(dict.fromkeys(_whole_id(text, candidates, hostnames) for text in given))


def _whole_id(text: str, candidates: list[str], hostnames: Mapping[str, str]) -> str:
    name = text.lower()
    if is_bot_id(name):
        return name
    # An empty text matches no bot: a script with an unset variable must not remove one.
    is_prefix = _PREFIX.fullmatch(name) is not None
    found = [
        bot_id
        for bot_id in candidates
        if (is_prefix and bot_id.startswith(name)) or (name and hostnames.get(bot_id, "").lower() == name)
    ]
    if not found and not is_prefix:
        raise Failure(
            f"{text!r} is neither a bot id nor a prefix of one, and no bot has this host name: "
            f"botctl list shows ids and host names{closest(text, list(hostnames.values()))}",
            ExitCode.USAGE,
        )
    if not found:
        raise Failure(f"no bot id starts with {text!r}: botctl list shows the ids", ExitCode.NOT_FOUND)
    if len(found) > 1:
        more = f" and {len(found) - _MAX_NAMED} more" if len(found) > _MAX_NAMED else ""
        raise Failure(f"{text!r} could be {', '.join(found[:_MAX_NAMED])}{more}: type more of the id", ExitCode.USAGE)
    return found[0]
