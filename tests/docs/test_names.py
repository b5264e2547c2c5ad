"""Names in the documents exist: options, reasons, log messages, targets, constants."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache

import pytest
from opentelemetry.sdk import environment_variables

from container_manager import errors
from container_manager.cli.adopt import adopt
from container_manager.cli.doctor import doctor
from container_manager.cli.serve import serve
from tests.docs.documents import DOCUMENTS, TOP, blocks, prose, read

OPTION = re.compile(r"`(--[a-z][a-z-]*)`")
CONSTANT = re.compile(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)`")
OPTION_TABLE = ("docs/options.md", "Options of serve")
OPERATIONS = "docs/operations.md"
SOURCES = (
    *(f"{name}/**/*" for name in ("server", "client", "proto", "images", "deploy", "examples", "dev", "tests/support")),
    "Makefile",
    "hatch_build.py",
)
# Messages that an operator should know how to act on.
LEVELS = ("warning", "error", "exception", "critical")


def rows(document: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without the table's head."""
    section = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", read(document), re.MULTILINE | re.DOTALL)
    assert section is not None, heading
    lines = [line for line in section[1].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def options(command: object) -> dict[str, object]:
    """A command's options by name, without help."""
    return {name: each for each in command.params for name in each.opts if name.startswith("--")}  # type: ignore[attr-defined]


def test_the_option_table_has_the_options_of_serve_and_no_others() -> None:
    shown = [name for row in rows(*OPTION_TABLE) for name in OPTION.findall(row[0])]
    assert sorted(options(serve)) == sorted(shown)


def test_the_defaults_of_the_option_table_are_the_options_own() -> None:
    wrong = []
    for names, default, _ in rows(*OPTION_TABLE):
        shown = [text.strip("` ") for text in default.split(", ")]
        for name, text in zip(OPTION.findall(names), shown, strict=False):
            own = options(serve)[name].default  # type: ignore[attr-defined]
            own = own[0] if isinstance(own, tuple) and own else own
            if re.fullmatch(r"[\w./:-]*[\d/:][\w./:-]*|missing", text) and str(own) != text:
                wrong.append((name, text, own))
    assert [] == wrong


@pytest.mark.parametrize(
    ("command", "own"), [(doctor, {"--running", "--output"}), (adopt, {"--dry-run"})], ids=["doctor", "adopt"]
)
def test_a_command_takes_the_options_of_serve_but_for_the_log_and_has_its_own(command: object, own: set[str]) -> None:
    """As docs/options.md says."""
    assert set(options(serve)) - set(options(command)) == {"--log-format", "--log-level"}
    assert set(options(command)) - set(options(serve)) == own


def test_the_operators_table_has_every_reason_that_an_error_can_give() -> None:
    classes = [cls for _, cls in inspect.getmembers(errors, inspect.isclass)]
    reasons = {cls.reason for cls in classes if issubclass(cls, errors.ContainerManagerError)}
    shown = [reason for row in rows(OPERATIONS, "Errors and what to do") for reason in re.findall(r"`(\w+)`", row[0])]
    assert sorted(reasons) == sorted(shown)


def logged() -> Iterator[str]:
    """Every message that the service logs as a warning or worse, with ``…`` for values."""
    for path in sorted((TOP / "server").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr in LEVELS and "log" in ast.unparse(node.func.value).lower() and node.args:
                yield _message(node.args[0])


def _message(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    assert isinstance(node, ast.Constant), ast.unparse(node)
    return re.sub(r"%[sdr]", "…", str(node.value))


def test_the_operators_table_has_every_warning_and_error_of_the_log_and_no_other() -> None:
    shown = {message for row in rows(OPERATIONS, "The log") for message in re.findall(r"`([^`]+)`", row[0])}
    assert set(logged()) == shown


def test_the_architectures_table_has_every_package_of_the_service() -> None:
    """Directories with modules; caches do not count."""
    packages = {path.parent.name for path in (TOP / "server" / "container_manager").glob("*/__init__.py")}
    shown = {
        name for row in rows("docs/architecture.md", "Where to find what") for name in re.findall(r"`(\w+)/`", row[0])
    }
    assert set() == packages - shown


@cache
def constants() -> set[str]:
    """Every name in capitals in the sources."""
    return {
        name
        for place in SOURCES
        for path in TOP.glob(place)
        if path.is_file() and path.suffix not in {".md", ".pyc"} and "node_modules" not in path.parts
        for name in re.findall(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+", path.read_text(encoding="utf-8"))
    }


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_constant_that_a_document_names_is_in_the_sources(document: str) -> None:
    """Reasons, codes, enum values, variables and secret files: a name that the sources do not have was renamed."""
    named = set(CONSTANT.findall("\n".join(prose(document))))
    assert set() == {name for name in named - constants() if not is_variable(name)}


def is_variable(name: str) -> bool:
    """Whether it is a variable of an option or of OpenTelemetry, or a provider's secret file: no source names these."""
    if name.endswith("_API_KEY") or hasattr(environment_variables, name):
        return True
    option = name.removeprefix("CONTAINER_MANAGER_").lower().replace("_", "-")
    return name.startswith("CONTAINER_MANAGER_") and f"--{option}" in options(serve)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_target_of_make_that_a_document_names_is_there(document: str) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (TOP / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = "\n".join(prose(document))
    named = set(re.findall(r"`make ([a-z][a-z-]*)", re.sub(r"\s+", " ", text)))
    for block in blocks(document):
        named |= set(re.findall(r"^(?:\$ )?make ([a-z][a-z-]*)", block.text, re.MULTILINE))
    assert set() == named - targets
