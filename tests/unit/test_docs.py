"""The tests that ``docs/`` names exist, and the conformance document covers every row of the contract's tables."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_manager import errors

TOP = Path(__file__).parents[2]
DOCS = sorted((TOP / "docs").glob("*.md"))
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+(?:::\w+)?)`")
CONFORMANCE = TOP / "docs" / "conformance.md"
CONFORMANCE_ROWS = 21
PITFALL_ROWS = 40


def defined(path: Path) -> Iterator[str]:
    """The tests of a module, as pytest names them, also those that a class has from one of another module."""
    body = ast.parse(path.read_text()).body
    modules = {
        each.name: f"{str(node.module).replace('.', '/')}.py"
        for node in body
        if isinstance(node, ast.ImportFrom)
        for each in node.names
    }
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from (f"{node.name}::{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef))
            for base in (each.id for each in node.bases if isinstance(each, ast.Name) and each.id.endswith("Contract")):
                for name in defined(TOP / modules[base]):
                    class_name, _, test = name.partition("::")
                    if class_name == base:
                        yield f"{node.name}::{test}"
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name


def rows(heading: str) -> list[list[str]]:
    """The cells of a section's table in the conformance document, without its head."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", CONFORMANCE.read_text(), re.MULTILINE | re.DOTALL)
    assert section is not None, heading
    lines = [line for line in section[1].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_test_that_a_document_names_is_there(path: Path) -> None:
    text = path.read_text()
    missing = [
        f"{module}::{name}"
        for module, name in NAMED.findall(text)
        if not (TOP / module).is_file() or name not in set(defined(TOP / module))
    ]
    assert [] == missing
    assert [] == re.findall(r"\btest_\w+", NAMED.sub("", text)), "tests are named as `tests/FILE.py::NAME`"


@pytest.mark.parametrize("heading", ["Conformance", "Outcomes", "Pitfalls", "The client in TypeScript"])
def test_every_row_of_the_conformance_table_names_a_test(heading: str) -> None:
    assert [] == [row[0] for row in rows(heading) if not NAMED.search(row[-1])]


def test_the_conformance_table_has_every_point_of_the_contract() -> None:
    assert [str(number + 1) for number in range(CONFORMANCE_ROWS)] == [row[0] for row in rows("Conformance")]
    assert PITFALL_ROWS == len(rows("Pitfalls"))


def test_the_conformance_table_has_every_reason_that_an_error_can_give() -> None:
    classes = [cls for _, cls in inspect.getmembers(errors, inspect.isclass)]
    reasons = {cls.reason for cls in classes if issubclass(cls, errors.ContainerManagerError)} - {""}
    shown = {reason for row in rows("Outcomes") for reason in re.findall(r"`([A-Z_]+)`", row[1])}
    assert reasons == shown


def test_the_security_document_names_a_test_for_each_decision() -> None:
    assert len(NAMED.findall((TOP / "docs" / "security.md").read_text())) > 20
