"""The operator's actions: what a file declares, and what is wrong with one, by line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from container_manager.actions import Action, Argument
from container_manager.errors import StartupError
from container_manager.maintenance.actions_file import read_actions

GOOD = """\
# Actions of the official image.
[[action]]
name = "pairing-approve"
command = ["openclaw", "pairing", "approve", "{channel}", "{code}"]
arguments = { channel = "telegram|discord", code = "[A-Z0-9]{8}" }
images = ["ghcr.io/openclaw/openclaw:*", "openclaw:*"]

[[action]]
name = "uptime"
command = [
  "uptime",
  "-p",
]
"""


def written(path: Path, content: str | bytes) -> Path:
    file = path / "actions.toml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def test_a_file_declares_actions_with_arguments_in_their_order(tmp_path: Path) -> None:
    expected = (
        Action(
            "pairing-approve",
            ("openclaw", "pairing", "approve", "{channel}", "{code}"),
            (Argument("channel", "telegram|discord"), Argument("code", "[A-Z0-9]{8}")),
            ("ghcr.io/openclaw/openclaw:*", "openclaw:*"),
        ),
        Action("uptime", ("uptime", "-p")),
    )
    assert expected == read_actions(written(tmp_path, GOOD))
    assert () == read_actions(written(tmp_path, "# none\n"))


def test_patterns_have_the_syntax_of_python(tmp_path: Path) -> None:
    patterns = (r"(?<!b)(?P<n>a)(?P=n){,3}", r"\{e\}", "a{2,}", "[^/]{1,1024}", r"\N{DIGIT ONE}", "(?>a+)b*+")
    places = ", ".join(f'"{{x{number}}}"' for number in range(len(patterns)))
    arguments = ", ".join(f"x{number} = '{pattern}'" for number, pattern in enumerate(patterns))
    file = written(tmp_path, f'[[action]]\nname = "a"\ncommand = ["b", {places}]\narguments = {{ {arguments} }}\n')
    (action,) = read_actions(file)
    assert patterns == tuple(argument.pattern for argument in action.arguments)


ONE = '[[action]]\nname = "a"\ncommand = ["b"]\n'


@pytest.mark.parametrize(
    ("content", "line", "what"),
    [
        (ONE + "timeout = 3\n", 4, "timeout: is not known; an action has name, command, arguments, images"),
        (ONE + "[action.environment]\nA = 'x'\n", 4, "environment: is not known"),
        (ONE + "\n" + ONE.replace('"a"', '"A"'), 6, "name: is required: lower-case"),
        (ONE.replace('name = "a"\n', ""), 1, "name: is required"),
        (ONE.replace('"a"', "3"), 2, "name: is required"),
        (ONE.replace('["b"]', '"sh -c b"'), 3, "command: is required: the program and its arguments, as a list"),
        (ONE.replace('["b"]', "[]"), 3, "command: is required"),
        (ONE.replace('["b"]', '[""]'), 3, "command: is required"),
        (ONE.replace('["b"]', '["b", 3]'), 3, "command: is required"),
        (ONE.replace('["b"]', '["b\\u0000"]'), 3, "command: must not contain a NUL"),
        (ONE.replace('["b"]', '["b", "{x}"]'), 3, "command: {x} stands for no argument"),
        (
            ONE.replace('["b"]', '["{x}"]') + "arguments = { x = '.' }\n",
            3,
            "command: must begin with a program, which no caller chooses",
        ),
        (ONE + "arguments = { x = '.' }\n", 4, "arguments: x has no place in the command; use an element {x}"),
        (ONE + "arguments = ['.']\n", 4, "arguments: must be a table of patterns"),
        (ONE + "[action.arguments]\nx = '['\n", 4, "arguments: x has a pattern that is no regular expression"),
        (ONE + "arguments = { x = '[a-z]{e}' }\n", 4, "arguments: x has a pattern with {e}, which is no repetition"),
        (ONE + "arguments = { x = '(a){2i+1d<=3:[b]}' }\n", 4, "arguments: x has a pattern with {2i+1d<=3:"),
        (ONE + "arguments = { x = '[[:alpha:]]+' }\n", 4, "arguments: x has a pattern with [[:, which is no class"),
        (ONE + "arguments = { x = 'x{id' }\n", 4, "arguments: x has a pattern that is no regular expression"),
        (ONE + "arguments = { x = '\\p{L}' }\n", 4, "arguments: x has a pattern that is no regular expression"),
        (ONE + "arguments = { x = 3 }\n", 4, "arguments: x must have a pattern"),
        (ONE + "arguments.X = '.'\n", 4, "arguments: X is no name"),
        (ONE + "images = []\n", 4, "images: must be a list of globs"),
        (ONE + "images = ''\n", 4, "images: must be a list of globs"),
        (ONE + "images = ['']\n", 4, "images: must be a list of globs"),
        ("\nactions = []\n" + ONE, 2, "actions: is not known; each action is a table [[action]]"),
        ("[action]\nname = 'a'\n", 1, "action: must be tables, each with the header [[action]]"),
        (b"# \xff\n", 1, "the file is not UTF-8"),
        (b"# a\n\n# \xff\n", 3, "the file is not UTF-8"),
    ],
)
def test_what_is_wrong_is_told_by_line_and_key(tmp_path: Path, content: str | bytes, line: int, what: str) -> None:
    file = written(tmp_path, content)
    with pytest.raises(StartupError) as caught:
        read_actions(file)
    prefix = f"{file}:{line}: "
    assert str(caught.value).startswith(prefix + what), str(caught.value)


@pytest.mark.parametrize(
    ("content", "what"), [('[[action]]\nname = "a\n', "(at line 2, column 10)"), ("#" * 1_048_577, "larger than")]
)
def test_what_is_no_toml_or_too_large_is_refused(tmp_path: Path, content: str, what: str) -> None:
    file = written(tmp_path, content)
    with pytest.raises(StartupError) as caught:
        read_actions(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert what in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="cannot be read: No such file"):
        read_actions(tmp_path / "missing.toml")
