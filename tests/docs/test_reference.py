"""``docs/reference.md`` has the whole contract, and its statements about errors are true."""

from __future__ import annotations

import re

import pytest

from botmaker.container.v1 import (
    bot_provisioner_pb2,
    container_maintainer_pb2,
    container_manager_pb2,
    container_observer_pb2,
)
from dev import reference

FILES = tuple(
    module.DESCRIPTOR
    for module in (bot_provisioner_pb2, container_maintainer_pb2, container_manager_pb2, container_observer_pb2)
)
PAIR = re.compile(r"\b([A-Z]+(?:_[A-Z]+)*)\s*/\s*((?:[A-Z]+(?:_[A-Z]+)+(?!\w|\s*/)(?:,\s+or\s+|,\s+|\s+or\s+)?)+)")


@pytest.fixture(scope="module")
def page() -> str:
    return reference.REFERENCE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def contract() -> list[reference.Commented]:
    return reference.contract()


def test_the_page_is_what_the_proto_says(page: str) -> None:
    assert reference.reference() == page


def test_every_rpc_has_its_kind_and_idempotency(page: str) -> None:
    rows = {
        row[0]: row[1:] for row in re.findall(r"^\| \[(\w+)\]\(#\w+\) \| ([\w ]+) \| ([\w` ]+) \|", page, re.MULTILINE)
    }
    methods = [method for file in FILES for service in file.services_by_name.values() for method in service.methods]
    assert sorted(rows) == sorted(method.name for method in methods)
    for method in methods:
        kind, idempotency = rows[method.name]
        assert ("server streaming" if method.server_streaming else "unary") == kind
        expected = {0: "not to be retried", 1: "`NO_SIDE_EFFECTS`", 2: "`IDEMPOTENT`"}
        assert expected[method.GetOptions().idempotency_level] == idempotency


def test_every_field_and_value_is_there_with_its_number_and_a_comment(page: str) -> None:
    lines = set(re.findall(r"^\| (\d+) \| `(\w+)` \|(?: [^|]+ \|)? \S", page, re.MULTILINE))
    messages = [message for file in FILES for message in file.message_types_by_name.values()]
    enums = [enum for file in FILES for enum in file.enum_types_by_name.values()]
    enums += [enum for message in messages for enum in message.enum_types]
    wanted = {(str(field.number), field.name) for message in messages for field in message.fields}
    wanted |= {(str(value.number), value.name) for enum in enums for value in enum.values}
    assert wanted == lines


def test_every_code_that_a_comment_names_is_the_reasons_own(contract: list[reference.Commented]) -> None:
    named = 0
    for file in contract:
        for comment in file.comments.values():
            for code, rest in PAIR.findall(comment):
                for reason in re.findall(r"[A-Z]+(?:_[A-Z]+)+", rest):
                    assert code == reference.reasons()[reason].code, reason
                    named += 1
    assert named > 10


def test_every_reason_is_named_by_the_contract(contract: list[reference.Commented]) -> None:
    """Except the one that no caller receives: its own cancellation."""
    text = "\n".join(comment for file in contract for comment in file.comments.values())
    assert {"OPERATION_CANCELLED"} == {reason for reason in reference.reasons() if reason not in text}
