"""Selects the bots of a command: by id, or all in certain states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click

from botctl.bot_ids import whole_ids
from botctl.rendering.words import state_named
from botctl.session import Session
from botmaker.container.v1 import container_manager_pb2 as pb


@dataclass(frozen=True)
class Selected:
    """A bot, and the status of its container before the command changes anything."""

    bot_id: str
    before: pb.ContainerStatus | None


def select(session: Session, *, bot_ids: Sequence[str], all_bots: bool, only_states: Sequence[str]) -> list[Selected]:
    """The bots that ``BOT...``, or ``--all`` and ``--state``, select."""
    if all_bots and bot_ids:
        raise click.UsageError("name bots or give --all, not both")
    if only_states and not all_bots:
        raise click.UsageError("--state goes with --all")
    if not all_bots and not bot_ids:
        raise click.UsageError("name at least one bot, or give --all")
    containers = session.containers()
    if all_bots:
        wanted = {state_named(word) for word in only_states}
        found = [each for each in containers if not wanted or each.state in wanted]
        for orphan in (each for each in found if not each.bot_id):
            session.notice(f"skipped: {orphan.name} has no bot id; use the engine's own tools")
        return [Selected(each.bot_id, each) for each in found if each.bot_id]
    by_id = {each.bot_id: each for each in containers}
    hostnames = {bot_id: each.hostname for bot_id, each in by_id.items()}
    return [Selected(bot_id, by_id.get(bot_id)) for bot_id in whole_ids(bot_ids, by_id, hostnames)]
