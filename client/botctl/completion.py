"""Bot ids for the shell's completion: asked of the service, and silent when there is none."""

from __future__ import annotations

from contextlib import closing

import click
from click.shell_completion import CompletionItem

from botctl.rendering.words import state_word
from botctl.session import session_of

# Somebody waits for it with a finger on the key.
_SECONDS = 1.0


def complete_bot_ids(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The ids that begin so and are not on the command line yet, with their states where the shell shows them."""
    given = ctx.params.get(param.name or "") or ()
    try:
        with closing(session_of(ctx)) as session:
            socket = session.connection.socket
            # The client would try for a while.
            if socket is not None and not socket.exists():
                return []
            containers = session.containers(timeout=_SECONDS)
    except Exception:  # noqa: BLE001 - a completion has nowhere to tell what went wrong
        return []
    return [
        CompletionItem(container.bot_id, help=state_word(container.state))
        for container in containers
        if container.bot_id.startswith(incomplete.lower()) and container.bot_id and container.bot_id not in given
    ]
