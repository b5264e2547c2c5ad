"""Which actions a container has, and what a caller may put into them."""

from __future__ import annotations

from typing import Any

import pytest

from container_manager.actions import BUILT_IN, Action, Argument, DeclaredActions, bounded
from container_manager.errors import ActionNotAllowedError
from container_manager.model import ContainerState, ContainerStatus

TOUCH = Action("touch", ("touch", "--", "{path}", "{path}", "x{path}"), (Argument("path", "[a-z/]+"),))
TWO = Action("two", ("say", "{b}", "{a}"), (Argument("a", ".*"), Argument("b", ".*")))


def container(image: str = "botmaker/openclaw:1", action_set: str = "openclaw") -> ContainerStatus:
    return ContainerStatus("c", "b", "n", ContainerState.RUNNING, image, "id", 1, action_set=action_set)


def test_a_value_takes_the_place_of_a_whole_element_and_of_nothing_else() -> None:
    assert ("touch", "--", "a/b", "a/b", "x{path}") == TOUCH.command_with(["a/b"])
    assert ("say", "2", "1") == TWO.command_with(["1", "2"])
    assert ("say", "{a}", "{b}") == TWO.command_with(["{b}", "{a}"]), "values are not looked into"


@pytest.mark.parametrize(
    ("action", "values", "why"),
    [
        (TOUCH, ["a", "b"], "it takes 1 arguments (path), and 2 were given"),
        (TOUCH, [], "it takes 1 arguments (path), and 0 were given"),
        (TOUCH, [""], "its argument path must match [a-z/]+"),
        (TOUCH, ["a\n"], "its argument path must match [a-z/]+"),
        (TOUCH, ["a b"], "its argument path must match [a-z/]+"),
        (TOUCH, ["a;b"], "its argument path must match [a-z/]+"),
        (TWO, ["a\0", "b"], "its argument a must match .*"),
        (TWO, ["a", "b\nc"], "its argument b must match .*"),
        (TWO, ["a" * 1025, "b"], "its argument a must match .*"),
        (TWO, ["-a", "b"], "its argument a must not begin with -"),
        (TWO, ["a", "--b"], "its argument b must not begin with -"),
        (Action("none", ("true",)), ["x"], "it takes 0 arguments (none), and 1 were given"),
    ],
)
def test_a_wrong_value_is_refused_and_not_repeated(action: Action, values: list[str], why: str) -> None:
    with pytest.raises(ActionNotAllowedError) as caught:
        action.command_with(values)
    assert f"the action {action.name} cannot run: {why}" == str(caught.value)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|aa)+$b", "((a{1,40}){1,40}){1,40}b", r"(\w+\s?)*!"])
def test_a_value_that_a_pattern_can_match_in_very_many_ways_is_refused(pattern: str) -> None:
    """Each of them takes `re` longer than anybody waits."""
    action = Action("hostile", ("echo", "{a}"), (Argument("a", pattern),))
    with pytest.raises(ActionNotAllowedError, match=r"its argument a (must|takes too long to) match"):
        action.command_with(["a" * 1024])


@pytest.mark.parametrize("name", ["ready", "pairing-list", "pairing-approve", "doctor"])
def test_a_built_in_action_is_for_images_with_the_label_only(name: str) -> None:
    declared = DeclaredActions()
    assert declared.find(name, container("any/image:1", "openclaw")) is not None
    assert declared.find(name, container("botmaker/openclaw:1", "")) is None
    assert declared.find(name, container("botmaker/openclaw:1", "other")) is None


def test_the_reload_of_secrets_is_for_every_image_that_has_its_program() -> None:
    found = DeclaredActions().require("secrets-reload", container("any/image:1", ""))
    assert ("node", "/opt/entrypoint/secrets-reload.mjs") == found.command


@pytest.mark.parametrize(
    ("code", "allowed"),
    [("ABCD2345", True), ("abcd2345", False), ("ABCD234", False), ("--notify", False), ("ABCD2345 --notify", False)],
)
def test_a_pairing_code_is_eight_letters_and_digits(code: str, allowed: bool) -> None:
    approve = next(action for action in BUILT_IN if action.name == "pairing-approve")
    if allowed:
        assert ("/opt/entrypoint/pairing.mjs", "approve", code) == approve.command_with([code])[-3:]
    else:
        with pytest.raises(ActionNotAllowedError):
            approve.command_with([code])


def test_an_operators_action_is_for_the_images_that_it_names_and_comes_before_the_built_in_one() -> None:
    other = Action("ready", ("other",), images=("ghcr.io/openclaw/openclaw:*",))
    every = Action("hello", ("hello",))
    declared = DeclaredActions((other, every))

    def command(name: str, **which: Any) -> tuple[str, ...]:
        return declared.require(name, container(**which)).command

    official = {"image": "ghcr.io/openclaw/openclaw:2026.9.6", "action_set": ""}
    assert ("other",) == command("ready", **official)
    assert ("other",) == command("ready", image="ghcr.io/openclaw/openclaw:1", action_set="openclaw")
    assert ("node", "/opt/entrypoint/ready.mjs") == command("ready")
    assert ("hello",) == command("hello") == command("hello", **official)


def test_an_image_without_the_action_is_told_which_ones_it_has() -> None:
    with pytest.raises(ActionNotAllowedError) as caught:
        DeclaredActions().require("pairing-list", container("alpine", ""))
    assert "image alpine has no action of this name; it has: secrets-reload" == str(caught.value)


def test_a_bounded_command_ends_in_the_container() -> None:
    assert ("timeout", "-k", "5", "60", "a", "b") == bounded(["a", "b"], 60)
