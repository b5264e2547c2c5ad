"""Lists that are polled: what has changed, and how little is decoded for that."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_manager.backends.swarm.polled_list import Change, PolledList

TEXTS = st.text(alphabet='aä"\\{}[],:I D\n', max_size=12)
VALUES: Any = st.recursive(
    TEXTS | st.none() | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(TEXTS, inner, max_size=3)
        | st.fixed_dictionaries({"ID": inner, "x": inner})
    ),
    max_leaves=8,
)
LISTS = st.dictionaries(st.text(min_size=1, max_size=4), VALUES, max_size=5).map(
    lambda found: [{"ID": key, "x": value} for key, value in found.items()]
)


def body(items: list[Any], **form: Any) -> bytes:
    return json.dumps(items, **{"separators": (",", ":"), **form}).encode()


def taken(polled: PolledList, answer: bytes) -> list[Change]:
    return polled.take(asyncio.run(polled.decode(answer)))


def test_only_what_has_changed_is_decoded_and_told() -> None:
    polled = PolledList()
    items = [{"ID": str(number), "state": "new"} for number in range(50)]
    assert [Change(None, item) for item in items] == taken(polled, body(items))
    changed = [dict(item) for item in items]
    changed[7]["state"] = "running"
    assert [Change(items[7], changed[7])] == taken(polled, body(changed))
    assert 51 == polled.decoded
    assert [Change(items[0], None)] == taken(polled, body(changed[1:]))
    assert [] == taken(polled, body(changed[1:]))
    assert 51 == polled.decoded
    assert changed[1:] == list(polled.documents.values())


def test_a_long_answer_is_decoded_in_steps_between_which_others_run() -> None:
    items = [{"ID": str(number), "text": "x" * 1000} for number in range(1000)]

    async def main() -> int:
        polled, turns = PolledList(), 0
        decoding = asyncio.create_task(polled.decode(body(items)))
        while not decoding.done():
            await asyncio.sleep(0)
            turns += 1
        return turns

    assert asyncio.run(main()) >= 50


@given(LISTS, LISTS, st.booleans())
def test_documents_and_changes_are_those_of_the_whole_lists(first: list[Any], second: list[Any], spaced: bool) -> None:
    """Whatever the documents hold, such as objects with ids in lists, and text that looks like JSON."""
    polled = PolledList()
    form = {"separators": None, "ensure_ascii": False} if spaced else {}
    for before, after in (([], first), (first, second), (second, second)):
        changes = taken(polled, body(after, **form))
        assert after == list(polled.documents.values())
        old, new = ({item["ID"]: item for item in items} for items in (before, after))
        expected = {key: (old.get(key), new.get(key)) for key in old | new if old.get(key) != new.get(key)}
        assert expected == {(change.after or change.before or {})["ID"]: tuple(change) for change in changes}


@pytest.mark.parametrize("answer", [b"", b"{}", b"[", b'[{"ID":"a"}', b'{"message":"no"}', b'[{"ID":"a"},{"ID":"b"]'])
def test_what_is_not_a_list_is_refused_and_changes_nothing(answer: bytes) -> None:
    polled = PolledList()
    taken(polled, body([{"ID": "a"}]))
    with pytest.raises(ValueError, match=r"list|array|Expecting|delimiter"):
        taken(polled, answer)
    assert [{"ID": "a"}] == list(polled.documents.values())


@pytest.mark.parametrize("answer", [b"[]", b"null", b"null\n", b" [] "])
def test_an_empty_list_may_be_null(answer: bytes) -> None:
    """As the engine writes it, which is in Go."""
    polled = PolledList()
    taken(polled, body([{"ID": "a"}]))
    assert [Change({"ID": "a"}, None)] == taken(polled, answer)
