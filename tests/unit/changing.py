"""Begins and ends changes of a bot's container."""

from __future__ import annotations

import asyncio
from typing import Any

from container_manager.view.bot_change import BotChange
from tests.support.kept_view import Kept
from tests.unit.documents import BOT


def begun(kept: Kept, **how: bool) -> BotChange:
    """A change of the bot that has started."""
    change = BotChange(kept.view, kept.refresher, None, BOT, **how)
    change.begin()
    return change


def ended(change: BotChange, outcome: Any) -> None:
    """End the change with this result, or with this error."""
    work = asyncio.get_running_loop().create_future()
    if isinstance(outcome, Exception):
        work.set_exception(outcome)
    else:
        work.set_result(outcome)
    change.end(work)
