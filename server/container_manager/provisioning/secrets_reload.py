"""Has a running bot read its secrets anew, by a program of its image."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from container_manager.actions import bounded
from container_manager.backend_provisioning import ActionResult, Actions, Secrets
from container_manager.deadline import Deadline
from container_manager.errors import SecretsReloadFailedError
from container_manager.model import ContainerStatus
from container_manager.operation import Operation
from container_manager.provisioning.overtakable import Submit, overtakable

SECONDS = 90.0
_WITHIN_SECONDS = 75
_MOST_WORDS = 500
_SHELLS_NOT_FOUND = (126, 127)


class Reloaded(NamedTuple):
    """A bot has read its secrets."""

    confirmed: tuple[str, ...]
    """The secrets that it has been proved to use."""


def reload_secrets(
    container: ContainerStatus,
    secrets: Secrets,
    actions: Actions,
    command: Sequence[str],
    submit: Submit[ActionResult],
    *,
    deadline: Deadline,
) -> Operation[Reloaded]:
    """Have the process in this running container read its secrets. ``command`` is that of its image for it.

    Raises :class:`SecretsReloadFailedError` with the bot's own words, and the errors of :func:`overtakable`.
    """
    token = secrets.token_of_run(container.bot_id, container.start_time_ns or 0)
    # The token goes to the program's standard input alone: arguments and environment are shown to others.
    program = partial(
        actions.run, container.container_id, bounded(command, _WITHIN_SECONDS), stdin=token, seconds=SECONDS
    )
    result = yield from overtakable(submit, container.bot_id, program, SECONDS, deadline)
    if result.exit_code:
        words = _words(result.stderr or result.stdout, token)
        if result.exit_code in _SHELLS_NOT_FOUND:
            words = f"its image has no program for it ({words})"
        raise SecretsReloadFailedError(f"the bot has not reloaded its secrets: {words}", bot_id=container.bot_id)
    secrets.forget_token(container.bot_id)
    return Reloaded(_confirmed(result.stdout))


def _words(output: bytes, token: bytes) -> str:
    """The end of what the program wrote, without the token."""
    if token.strip():
        output = output.replace(token.strip(), b"***")
    return output.decode("utf-8", "replace").strip()[-_MOST_WORDS:] or "it gave no reason"


def _confirmed(output: bytes) -> tuple[str, ...]:
    try:
        names = json.loads(output)["confirmed"]
    except (ValueError, KeyError, TypeError):
        return ()
    return tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else ()
