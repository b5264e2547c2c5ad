"""Which outputs count as the same and which do not: a comparison that always holds would show nothing."""

from __future__ import annotations

import pytest

from tests.docs.documents import Block, steps
from tests.docs.likeness import Likeness

BOT, OTHER = "2b0d5a1e-7c61-4b5e-9d0e-5b1f0c9a7e11", "d65afb9e-caec-4e0e-bd96-205d054c89f1"
REAL, REAL_OTHER = "00000000-7c61-4b5e-9d0e-5b1f0c9a7e11", "11111111-caec-4e0e-bd96-205d054c89f1"


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ([f"{BOT}  started"], f"{REAL}  started"),
        ([f"{BOT}  running  5s  -"], f"{REAL}    running   12m    -\n"),
        (['{"time": "2026-11-24T22:00:37.744284680Z"}'], '{"time": "2027-01-01T00:00:00Z"}'),
        (["containerId: 9711f2ec4275…"], f"containerId: {'ab' * 32}"),
        (["a", "…", "z"], "a\nz"),
        (["a", "…", "z"], "a\nb\nc\nz"),
        ([f"{BOT}  stopped", f"{OTHER}  stopped"], f"{REAL_OTHER}  stopped\n{REAL}  stopped"),
        ([], ""),
    ],
)
def test_values_that_differ_between_runs_are_compared_by_kind(shown: list[str], printed: str) -> None:
    assert "" == Likeness({BOT: REAL, OTHER: REAL_OTHER}).difference(shown, printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ([f"{BOT}  started"], f"{REAL}  stopped"),
        ([f"{BOT}  started"], f"{REAL_OTHER}  started"),
        ([f"{BOT}  started"], ""),
        ([], "something"),
        (["a", "b"], "b\na"),
        (["exit code 3"], "exit code 4"),
        (["a", "…", "z"], "a\nb"),
        ([f"{BOT}  stopped", f"{OTHER}  removed"], f"{REAL_OTHER}  stopped\n{REAL}  removed"),
    ],
)
def test_a_wrong_output_in_a_document_is_found(shown: list[str], printed: str) -> None:
    assert "" != Likeness({BOT: REAL, OTHER: REAL_OTHER}).difference(shown, printed)


def test_an_id_stays_one_bots_through_a_document() -> None:
    likeness = Likeness({})
    assert "" == likeness.difference([f"{BOT}  created"], f"{REAL}  created")
    assert "" != likeness.difference([f"{BOT}  started"], f"{REAL_OTHER}  started")


def test_a_console_block_is_commands_with_what_they_print() -> None:
    found = steps(Block("x.md", 1, "console", "$ a \\\n    b\none\n\n$ c\n"))
    assert [("a \\\n    b", ["one", ""]), ("c", [])] == [(step.command, step.shown) for step in found]
