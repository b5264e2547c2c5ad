"""A list that is asked for again and again: only what has changed since the last answer is decoded.

The answer is cut between its items without decoding it. An item whose bytes were in the last answer keeps its document.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from container_manager.engine.json_items import json_items

Json = dict[str, Any]

# Each item of a manager's lists begins with its id. Quotes in strings are escaped, so that this is found only where an
# object in an array begins with an id. Where one within an item does, as of cluster volumes, no piece can be decoded,
# and the list is decoded as a whole.
_BEGIN = b'{"ID":"'
_BETWEEN = b"}," + _BEGIN
# Items of 1 to 3 kB: less than a millisecond.
_DECODED_AT_ONCE = 20
_COMPARED_AT_ONCE = 1000


class Change(NamedTuple):
    """How an item differs between two answers."""

    before: Json | None
    """``None``: it is new."""
    after: Json | None
    """``None``: it is gone."""


class Answer(NamedTuple):
    """A list as the engine has answered it."""

    body: bytes
    known: dict[bytes, Json]
    """The documents by the bytes of the items."""
    new: list[Json]
    """Those that were not in the last answer."""


class PolledList:
    """The newest answer to one request for a list of objects with an ``ID``."""

    def __init__(self) -> None:
        self.documents: dict[str, Json] = {}
        """The items by their ids, in the order of the answer."""
        self.decoded = 0
        """How many items have been decoded so far."""
        self._answer = Answer(b"", {}, [])

    async def decode(self, body: bytes) -> Answer | None:
        """The next answer, for :meth:`take`; ``None``: it is the same. Raises ``ValueError`` for anything but a list.

        Works in steps, to let other tasks run.
        """
        if body == self._answer.body:
            return None
        try:
            return await self._decoded(body, ((text, None) for text in _pieces(body)))
        except ValueError:
            return await self._decoded(body, ((json.dumps(item).encode(), item) for item in json_items(body.decode())))

    async def _decoded(self, body: bytes, items: Iterable[tuple[bytes, Json | None]]) -> Answer:
        """``items``: each as text, and decoded if it had to be."""
        answer = Answer(body, {}, [])
        for number, (text, item) in enumerate(items, 1):
            document = self._answer.known.get(text)
            if document is None:
                document = item or json.loads(_BEGIN + text + b"}")
                answer.new.append(document)
                if len(answer.new) % _DECODED_AT_ONCE == 0:
                    await asyncio.sleep(0)
            answer.known[text] = document
            if number % _COMPARED_AT_ONCE == 0:
                await asyncio.sleep(0)
        return answer

    def take(self, answer: Answer | None) -> list[Change]:
        """Take over an answer: what differs from the one before."""
        if answer is None:
            return []
        documents = {document["ID"]: document for document in answer.known.values()}
        changes = [Change(self.documents.get(document["ID"]), document) for document in answer.new]
        changes += [Change(before, None) for key, before in self.documents.items() if key not in documents]
        self.decoded += len(answer.new)
        self.documents, self._answer = documents, answer
        return changes


def _pieces(body: bytes) -> list[bytes]:
    """The items of the array, each without :data:`_BEGIN` and its last brace. Raises ``ValueError``."""
    text = body.strip()
    if text in (b"[]", b"null"):
        return []
    if not text.startswith(b"[" + _BEGIN) or not text.endswith(b"}]"):
        raise ValueError("not a list of objects that begin with an id")
    return text[1 + len(_BEGIN) : -2].split(_BETWEEN)
