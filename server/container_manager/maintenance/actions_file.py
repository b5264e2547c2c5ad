"""Reads the operator's actions: the TOML file that ``--actions`` names.

[[action]]
name = "pairing-approve"
command = ["openclaw", "pairing", "approve", "{code}"]
arguments = { code = "[A-Z0-9]{8}" }
images = ["ghcr.io/openclaw/openclaw:*"]
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import regex

from container_manager.actions import Action, Argument
from container_manager.errors import StartupError

_NAME = re.compile("[a-z][a-z0-9-]{0,62}")
_ARGUMENT_NAME = re.compile("[a-z][a-z0-9_]{0,62}")
_PLACE = re.compile(r"\{(.*)\}")
_KEYS = ("name", "command", "arguments", "images")
_HEADER = re.compile(r"\s*\[\[\s*action\s*\]\]")
# Literal text for `re`. For `regex`, the errors that an approximate match may have.
_APPROXIMATE = re.compile(r"\{[0-9<=+,: ]*[deis][0-9deis<=+,: ]*[:}]")
_MOST_BYTES = 1024 * 1024


def read_actions(path: Path) -> tuple[Action, ...]:
    """The actions of a file. Raises :class:`StartupError` that names the file, the line and the key."""
    try:
        content = path.read_bytes()
        if len(content) > _MOST_BYTES:
            raise StartupError(f"{path}: the file is larger than {_MOST_BYTES} bytes")
        text = content.decode("utf-8")
        document = tomllib.loads(text)
    except OSError as exc:
        raise StartupError(f"{path}: the file cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise StartupError(f"{path}:{content[: exc.start].count(10) + 1}: the file is not UTF-8") from exc
    except tomllib.TOMLDecodeError as exc:
        # Its message ends with the line and the column.
        raise StartupError(f"{path}: the file is not TOML: {exc}") from exc
    lines = _Lines(path, text)
    for key in document:
        if key != "action":
            raise lines.problem(None, key, "is not known; each action is a table [[action]]")
    tables = document.get("action", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise lines.problem(None, "action", "must be tables, each with the header [[action]]")
    return tuple(_action(table, lines, index) for index, table in enumerate(tables))


class _Lines:
    """Finds the lines of keys, which the parser does not tell."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._lines = text.splitlines()
        self._headers = [number for number, line in enumerate(self._lines) if _HEADER.match(line)]

    def problem(self, index: int | None, key: str, what: str) -> StartupError:
        """What is wrong with a key of the action with this index, or of the top level."""
        return StartupError(f"{self._path}:{self._line(index, key) + 1}: {key}: {what}")

    def _line(self, index: int | None, key: str) -> int:
        first, last = 0, len(self._lines)
        if index is not None and index < len(self._headers):
            first, last = self._headers[index], [*self._headers, last][index + 1]
        begins = re.compile(rf"""\s*\[*\s*(?:action\s*\.\s*)?["']?{re.escape(key)}["']?\s*[=.\]]""")
        return next((number for number in range(first, last) if begins.match(self._lines[number])), first)


def _action(table: dict[str, Any], lines: _Lines, index: int) -> Action:
    try:
        return _checked(table)
    except _WrongError as exc:
        raise lines.problem(index, exc.key, exc.what) from exc


class _WrongError(Exception):
    def __init__(self, key: str, what: str) -> None:
        super().__init__(key, what)
        self.key = key
        self.what = what


def _checked(table: dict[str, Any]) -> Action:
    for key in table:
        if key not in _KEYS:
            raise _WrongError(key, f"is not known; an action has {', '.join(_KEYS)}")
    name = table.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _WrongError("name", "is required: lower-case letters, digits and hyphens, a letter first")
    arguments = _arguments(table.get("arguments", {}))
    command = _command(table.get("command"), [argument.name for argument in arguments])
    images = table.get("images", ["*"])
    if not _is_texts(images) or not images or not all(images):
        raise _WrongError("images", "must be a list of globs, at least one, as for --allowed-image")
    return Action(name, command, arguments, tuple(images) if "images" in table else ())


def _arguments(value: Any) -> tuple[Argument, ...]:
    if not isinstance(value, dict):
        raise _WrongError("arguments", 'must be a table of patterns, such as { code = "[A-Z0-9]{8}" }')
    for name, pattern in value.items():
        if why := _fault(name, pattern):
            raise _WrongError("arguments", f"{name} {why}")
    return tuple(map(Argument, value, value.values()))


def _command(value: Any, arguments: list[str]) -> tuple[str, ...]:
    if not _is_texts(value) or not value or not value[0]:
        raise _WrongError("command", "is required: the program and its arguments, as a list of strings")
    if "\0" in "".join(value):
        raise _WrongError("command", "must not contain a NUL character")
    places = [found[1] for element in value if (found := _PLACE.fullmatch(element))]
    if _PLACE.fullmatch(value[0]):
        raise _WrongError("command", "must begin with a program, which no caller chooses")
    for place in places:
        if place not in arguments:
            raise _WrongError("command", f"{{{place}}} stands for no argument; declare it in arguments")
    for name in arguments:
        if name not in places:
            raise _WrongError("arguments", f"{name} has no place in the command; use an element {{{name}}}")
    return tuple(value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _fault(argument: str, pattern: Any) -> str:
    """What is wrong with an argument; empty if nothing."""
    if not _ARGUMENT_NAME.fullmatch(argument):
        return "is no name: lower-case letters, digits and underscores, a letter first"
    if not isinstance(pattern, str):
        return "must have a pattern, as a string"
    if "[[:" in pattern:
        return "has a pattern with [[:, which is no class of characters in Python"
    try:
        # The syntax is Python's. `regex`, which matches the values, knows more than that.
        re.compile(pattern)
        regex.compile(pattern)
    except (re.error, regex.error) as exc:
        return f"has a pattern that is no regular expression: {exc}"
    if found := _APPROXIMATE.search(re.sub(r"\\.", "", pattern)):
        return f"has a pattern with {found[0]}, which is no repetition; write \\{{ for a brace"
    return ""
