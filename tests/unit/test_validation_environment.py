"""Validation of the bot's environment and command."""

from __future__ import annotations

from dataclasses import replace

import pytest

from container_manager.model import TYPED_VARIABLES, ContainerConfig
from container_manager.validation import MAX_STRING_BYTES
from tests.unit.violations import fields, violations


@pytest.mark.parametrize(
    "name",
    ["", "A=B", "=", "1A", "9", "A B", "A\0", "A\n", "\n", "A-B", "A.B", "Ä", "a\u0661", "A" * 300 + "!"],
    ids=ascii,
)
def test_an_environment_name_outside_the_grammar_is_refused(name: str) -> None:
    ((field, text),) = violations(ContainerConfig(environment={name: "x"}))
    assert "config.environment" == field
    assert "does not match" in text
    assert len(text) < 200


@pytest.mark.parametrize("name", ["BOT_ID", "AI_PROVIDER", "AI_MODEL", "CHANNEL_TYPE"])
def test_a_reserved_environment_name_is_refused(name: str) -> None:
    ((field, text),) = violations(ContainerConfig(environment={name: "x"}))
    assert "config.environment" == field
    assert name in text


@pytest.mark.parametrize("name", ["bot_id", "BOT_ID_", "_BOT_ID", "_", "PATH"])
def test_a_name_like_a_reserved_one_is_accepted(name: str) -> None:
    assert [] == violations(ContainerConfig(environment={name: "x"}))


@pytest.mark.parametrize("value", ["\0", "a\0b", "x" * MAX_STRING_BYTES, "ü" * (MAX_STRING_BYTES // 2)])
def test_an_environment_value_with_nul_or_too_long_is_refused_without_being_repeated(value: str) -> None:
    ((field, text),) = violations(ContainerConfig(environment={"SOME": value}))
    assert "config.environment['SOME']" == field
    assert len(text) < 100


def test_the_longest_variable_that_linux_takes_is_accepted() -> None:
    longest = "x" * (MAX_STRING_BYTES - len("A="))
    assert [] == violations(ContainerConfig(environment={"A": longest}))
    assert ["config.environment['A']"] == fields(ContainerConfig(environment={"A": longest + "x"}))


def test_an_environment_too_large_in_all_is_refused() -> None:
    config = ContainerConfig(environment={f"A{n}": "x" * 120_000 for n in range(9)})
    assert ["config.environment"] == fields(config)


@pytest.mark.parametrize("field", TYPED_VARIABLES)
def test_a_field_that_sets_a_variable_may_be_as_long_as_the_variable(field: str) -> None:
    longest = "x" * (MAX_STRING_BYTES - len(f"{TYPED_VARIABLES[field]}="))
    assert [] == violations(ContainerConfig(**{field: longest}))
    assert [f"config.{field}"] == fields(ContainerConfig(**{field: longest + "x"}))


@pytest.mark.parametrize(
    ("arguments", "variables", "expected"), [(4, 6, "config.environment"), (6, 4, "config.command")]
)
def test_command_variables_and_typed_fields_share_one_limit(arguments: int, variables: int, expected: str) -> None:
    """A program with more of them cannot be executed (execve(2))."""
    part = "x" * 100_000
    config = ContainerConfig(command=(part,) * arguments, environment={f"A{n}": part for n in range(variables)})
    assert [] == fields(config)
    assert [expected] == fields(replace(config, ai_model=part))


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("",), ["config.command[0]"]),
        (("a\0",), ["config.command[0]"]),
        (("a", "x" * 200_000), ["config.command[1]"]),
        (("x" * 100_000,) * 11, ["config.command"]),
    ],
    ids=["empty", "nul", "long", "total"],
)
def test_a_command_that_cannot_run_is_refused(command: tuple[str, ...], expected: list[str]) -> None:
    assert expected == fields(ContainerConfig(command=command))
