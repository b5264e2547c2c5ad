"""A live view that tests fill by hand."""

from __future__ import annotations

from dataclasses import replace

from container_manager.model import ContainerState, ContainerStatus, owned_bot
from container_manager.view.live_view import LiveView
from tests.unit.documents import BOT, NAME, OTHER_BOT

A = ContainerStatus("a" * 64, BOT, NAME, ContainerState.RUNNING, "img", "sha256:1", 2_000)
B = replace(A, container_id="b" * 64, bot_id=OTHER_BOT, name=f"botmaker-{OTHER_BOT}", create_time_ns=1_000)


def trusted_view(*statuses: ContainerStatus) -> LiveView:
    """A trusted view."""
    view = LiveView(lambda status: f"{status.container_id} {status.name}".encode(), owned_bot)
    view.regain()
    apply(view, *statuses)
    return view


def apply(view: LiveView, *statuses: ContainerStatus, partial: bool = False) -> None:
    """Apply each status as the result of an inspection with no other in progress."""
    for status in statuses:
        assert view.apply(status, view.tick(), partial=partial)
