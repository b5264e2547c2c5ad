"""Actions: programs that the service may run inside bots' containers, each declared by name.

An action is a fixed argument vector. A caller chooses the values of its arguments only, each of which has its place in
the vector and a pattern. No shell is involved.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import regex

from container_manager.errors import ActionNotAllowedError
from container_manager.image_reference import matches_any
from container_manager.model import ContainerStatus

LABEL_ACTIONS = "botmaker.actions"
"""A label of an image: the set of built-in actions whose programs the image has."""
READY = "ready"
"""The action that ends with 0 when the bot is ready."""
SECRETS_RELOAD = "secrets-reload"

_MOST_CHARACTERS = 1024
# Of the process's CPU. A pattern that can match one text in many ways, such as (a+)+, takes exponential time.
_MATCH_SECONDS = 1.0
_KILL_AFTER_SECONDS = "5"


@dataclass(frozen=True)
class Argument:
    """An argument that the caller gives."""

    name: str
    pattern: str
    """A regular expression that the whole value matches."""


@dataclass(frozen=True)
class Action:
    """A program for bots with certain images."""

    name: str
    command: tuple[str, ...]
    """The program and its arguments. An element ``{NAME}`` stands for the value of the argument with this name."""
    arguments: tuple[Argument, ...] = ()
    """In the order in which callers give their values."""
    images: tuple[str, ...] = ()
    """Globs over image references, as for ``--allowed-image``; empty: not chosen by reference."""
    action_set: str = ""
    """The value of the label :data:`LABEL_ACTIONS` of its images; empty: not chosen by label."""

    def is_for(self, container: ContainerStatus) -> bool:
        """Whether the container's image has this action."""
        if self.action_set and self.action_set != container.action_set:
            return False
        return not self.images or matches_any(container.image, self.images)

    def command_with(self, values: Sequence[str]) -> tuple[str, ...]:
        """The command with these values of the arguments. Raises :class:`ActionNotAllowedError` for a wrong one.

        For a worker thread: a pattern may take up to a second of CPU time.
        """
        if len(values) != len(self.arguments):
            names = ", ".join(argument.name for argument in self.arguments) or "none"
            raise self._refused(f"it takes {len(self.arguments)} arguments ({names}), and {len(values)} were given")
        given = {}
        for argument, value in zip(self.arguments, values, strict=True):
            if value.startswith("-"):
                raise self._refused(f"its argument {argument.name} must not begin with -")
            if len(value) > _MOST_CHARACTERS or "\0" in value or not self._matches(argument, value):
                raise self._refused(f"its argument {argument.name} must match {argument.pattern}")
            given[f"{{{argument.name}}}"] = value
        return tuple(given.get(element, element) for element in self.command)

    def _matches(self, argument: Argument, value: str) -> bool:
        try:
            # This releases the GIL, so the event loop goes on. `re` does not.
            found = regex.fullmatch(argument.pattern, value, timeout=_MATCH_SECONDS)
        except TimeoutError:
            raise self._refused(f"its argument {argument.name} takes too long to match {argument.pattern}") from None
        return found is not None

    def _refused(self, why: str) -> ActionNotAllowedError:
        return ActionNotAllowedError(f"the action {self.name} cannot run: {why}", action=self.name)


_PAIRING = ("node", "--disable-warning=ExperimentalWarning", "/opt/entrypoint/pairing.mjs")

BUILT_IN = (
    Action("ready", ("node", "/opt/entrypoint/ready.mjs"), action_set="openclaw"),
    Action("pairing-list", (*_PAIRING, "list", "--json"), action_set="openclaw"),
    Action(
        "pairing-approve",
        (*_PAIRING, "approve", "{code}"),
        (Argument("code", "[A-Z0-9]{8}"),),
        action_set="openclaw",
    ),
    # Only reads; without --lint it could write.
    Action("doctor", ("openclaw", "doctor", "--lint", "--json"), action_set="openclaw"),
    # Other images may have the same program.
    Action(SECRETS_RELOAD, ("node", "/opt/entrypoint/secrets-reload.mjs")),
)
"""Actions of images/openclaw, which has the label ``botmaker.actions=openclaw``."""


class DeclaredActions:
    """All actions of a server. Those of the operator come before the built-in ones of the same name."""

    def __init__(self, of_operator: Iterable[Action] = (), built_in: Iterable[Action] = BUILT_IN) -> None:
        self.all = (*of_operator, *built_in)

    def declares(self, name: str) -> bool:
        """Whether any image has an action of this name."""
        return any(action.name == name for action in self.all)

    def find(self, name: str, container: ContainerStatus) -> Action | None:
        """The action that runs in this container under a name; ``None`` if its image has none."""
        return next((action for action in self.all if action.name == name and action.is_for(container)), None)

    def require(self, name: str, container: ContainerStatus) -> Action:
        """The same. Raises :class:`ActionNotAllowedError` if there is none."""
        action = self.find(name, container)
        if action is None:
            names = sorted({each.name for each in self.all if each.is_for(container)})
            raise ActionNotAllowedError(
                f"image {container.image} has no action of this name; it has: {', '.join(names) or 'none'}",
                bot_id=container.bot_id,
            )
        return action


def bounded(command: Sequence[str], seconds: int) -> tuple[str, ...]:
    """The command under ``timeout``, which ends it in the container, where nothing else would."""
    return ("timeout", "-k", _KILL_AFTER_SECONDS, str(seconds), *command)
