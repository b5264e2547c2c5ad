"""Validation of bot ids and request ids."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_manager.errors import InvalidBotIdError
from container_manager.validation import check_bot_id, is_bot_id
from tests.unit.documents import BOT
from tests.unit.violations import violations

# Fixed, since pytest-xdist wants the same test ids in every process.
UUID_4, UUID_1 = "8393c6a7-081d-45aa-8eda-b5b8803bb9d6", "ca45ef30-eb96-11f1-ba42-02fc00000001"


@pytest.mark.parametrize("bot_id", [BOT, "00000000-0000-0000-0000-000000000000", UUID_4, UUID_1])
def test_a_canonical_uuid_is_a_bot_id(bot_id: str) -> None:
    check_bot_id(bot_id)


@pytest.mark.parametrize(
    "bot_id",
    [
        "",
        " ",
        "../" + BOT,
        "../../etc/passwd",
        BOT + "/..",
        BOT.upper(),
        "{" + BOT + "}",
        "urn:uuid:" + BOT,
        BOT.replace("-", ""),
        BOT + "\n",
        "\n" + BOT,
        BOT + "\0",
        "\0" * 36,
        BOT[:-1],
        BOT + "1",
        BOT.replace("0", "\u0660"),
        BOT.replace("0", "\uff10"),
        BOT.replace("-", "\u2010"),
        BOT.replace("0", "g", 1),
        "a" * 10_000,
        (BOT + " ") * 300,
        "é" * 36,
        "💣" * 10_000,
    ],
    ids=ascii,
)
def test_anything_else_is_refused_in_a_short_sentence(bot_id: str) -> None:
    with pytest.raises(InvalidBotIdError) as caught:
        check_bot_id(bot_id)
    assert ["bot_id"] == [violation.field for violation in caught.value.violations]
    assert len(str(caught.value)) < 1_000
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


def _is_canonical(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


@given(st.text() | st.uuids().map(str) | st.from_regex(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}\n?"))
def test_a_bot_id_is_accepted_exactly_if_it_is_canonical(text: str) -> None:
    assert _is_canonical(text) == is_bot_id(text)


@pytest.mark.parametrize("request_id", ["", "a", "~" * 128, UUID_4])
def test_a_printable_request_id_is_accepted(request_id: str) -> None:
    assert [] == violations(request_id=request_id)


@pytest.mark.parametrize("request_id", [" ", "a b", "a\n", "\0", "é", "x" * 129, "x" * 10_000, "\x7f"], ids=ascii)
def test_another_request_id_is_refused(request_id: str) -> None:
    ((field, text),) = violations(request_id=request_id)
    assert ("request_id", True) == (field, len(text) < 100)
