"""``botctl watch``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Any

import click
from rich.console import RenderableType

from botctl.options import bot_id_arguments, label_option, once, with_session
from botctl.rendering.cells import state_cell
from botctl.rendering.console import is_live
from botctl.rendering.json_documents import Json, status_document, write_line
from botctl.rendering.live import live_table
from botctl.rendering.tables import containers_table
from botctl.rendering.unsafe_text import printable
from botctl.rendering.words import now, time_text
from botctl.resuming import followed
from botctl.session import Session
from botctl.watch_state import Event, WatchState
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb


@click.command()
@bot_id_arguments
@label_option("Only containers with this label. Repeatable: with all of them.")
@with_session
def watch(session: Session, bot_ids: Sequence[str], labels: Sequence[tuple[str, str]]) -> None:
    """Show bots' states as they change until Ctrl-C.

    Shows all bots unless some are named. On a terminal it updates a table, otherwise it prints a line for each change.
    """
    request = observer_pb.WatchContainersRequest(bot_ids=session.whole_ids(bot_ids), labels=once("--label", labels))
    watched = WatchState()

    def open_stream() -> Any:
        watched.reopened()
        return session.observer.WatchContainers(request)

    def render(rows: int) -> tuple[RenderableType, str]:
        containers = sorted(watched.containers.values(), key=_order)
        hidden = f", {len(containers) - rows} not shown" if len(containers) > rows else ""
        running = sum(each.state == pb.CONTAINER_STATE_RUNNING for each in containers)
        line = f"{len(containers)} containers, {running} running{hidden}; Ctrl-C ends this"
        return containers_table(containers[:rows], session.out, now()), line

    live = is_live(session.out) and not session.as_json
    messages: Iterable[observer_pb.WatchContainersResponse] = followed(open_stream, session.notice)
    with live_table(session.out, render) if live else nullcontext():
        for message in messages:
            for event in watched.apply(message):
                if session.as_json:
                    write_line(event_document(event, message.version))
                elif not live and event.status is not None:
                    session.out.print(_line(event, event.status), soft_wrap=True)


def event_document(event: Event, version: int) -> Json:
    """An event. ``container`` is the last known status of a removed one, and ``null`` for events of the stream."""
    container = status_document(event.status) if event.status is not None else None
    return {"event": event.kind, "version": version, "container": container}


def _line(event: Event, status: pb.ContainerStatus) -> str:
    what = "removed" if event.kind == "removed" else "".join(text for text, _ in state_cell(status))
    return f"{time_text(now())[:19]}Z  {_name(status)}  {what}"


def _name(status: pb.ContainerStatus) -> str:
    return status.bot_id or f"({printable(status.name or status.container_id)})"


def _order(status: pb.ContainerStatus) -> tuple[int, str]:
    return status.create_time.ToNanoseconds(), status.container_id
