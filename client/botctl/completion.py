"""Completes bot ids in the shell. Prints nothing if the service does not answer."""

from __future__ import annotations

from contextlib import closing

import click
from click.shell_completion import CompletionItem

# The user waits for the completion.
_SECONDS = 1.0


def complete_bot_ids(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The ids that start with the text and are not on the command line yet, with the containers' states as help."""
    # Names of commands and options are completed without these.
    from botctl.rendering.words import state_word
    from botctl.session import session_of

    given = ctx.params.get(param.name or "") or ()
    try:
        with closing(session_of(ctx)) as session:
            socket = session.connection.socket
            # The client would retry for a while.
            if socket is not None and not socket.exists():
                return []
            containers = session.containers(timeout=_SECONDS)
    except Exception:  # noqa: BLE001 - a completion cannot show errors
        return []
    return [
        CompletionItem(container.bot_id, help=state_word(container.state))
        for container in containers
        if container.bot_id.startswith(incomplete.lower()) and container.bot_id and container.bot_id not in given
    ]
