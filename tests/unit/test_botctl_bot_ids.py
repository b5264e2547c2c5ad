"""Bot ids as users type them: whole, or an unambiguous prefix, and nothing that could mean another bot."""

from __future__ import annotations

import pytest

from botctl.bot_ids import new_bot_id, whole_ids
from botctl.exit_codes import ExitCode, Failure
from botctl.rendering.words import short_ids

A = "0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11"
B = "0b5f0c4e-7000-4c55-9c3e-2f1d9a7e8b11"
C = "d2000000-6f0a-4c55-9c3e-2f1d9a7e8b11"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["d"], [C]),
        (["D2"], [C]),
        (["0b5f0c4e-6"], [A]),
        ([A, "d2", B], [A, C, B]),
        ([C, "d", C.upper()], [C]),
        (["11111111-1111-1111-1111-111111111111"], ["11111111-1111-1111-1111-111111111111"]),
    ],
)
def test_a_full_id_is_taken_as_it_is_and_a_prefix_names_the_one_id_that_starts_with_it(
    given: list[str], meant: list[str]
) -> None:
    assert meant == whole_ids(given, [A, B, C, ""])


@pytest.mark.parametrize("text", ["", " ", "xyz", "0b5f*", "0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b111", "botmaker-0b"])
def test_a_text_that_is_no_prefix_of_any_id_is_refused_also_the_empty_one(text: str) -> None:
    with pytest.raises(Failure, match="is neither a bot id nor a prefix of one") as caught:
        whole_ids([text], [C])
    assert ExitCode.USAGE == caught.value.exit_code


def test_an_ambiguous_prefix_lists_the_matching_ids() -> None:
    with pytest.raises(Failure, match=f"'0b5f' could be {A}, {B}: type more of the id") as caught:
        whole_ids(["0b5f"], [A, B, C])
    assert ExitCode.USAGE == caught.value.exit_code


def test_of_many_matching_ids_only_some_are_listed() -> None:
    many = [f"aaaaaaaa-0000-0000-0000-{number:012}" for number in range(8)]
    with pytest.raises(Failure, match=f"{many[4]} and 3 more"):
        whole_ids(["a"], many)


def test_a_prefix_without_a_matching_id_is_not_found() -> None:
    with pytest.raises(Failure, match="no bot id starts with 'ee'") as caught:
        whole_ids(["ee"], [A, B, C])
    assert ExitCode.NOT_FOUND == caught.value.exit_code


def test_a_new_bot_needs_a_whole_id() -> None:
    assert new_bot_id(A.upper()) == A
    with pytest.raises(Failure, match="uuidgen"):
        new_bot_id("0b5f")


def test_short_ids_can_be_told_apart_and_typed() -> None:
    shorts = short_ids([A, B, C])
    assert {A: "0b5f0c4e-6", B: "0b5f0c4e-7", C: "d2000000"} == shorts
    assert [A, B, C] == whole_ids([shorts[A], shorts[B], shorts[C]], [A, B, C])
