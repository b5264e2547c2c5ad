"""The rows of a list of containers, as parts of text with rich's names of their styles, and without rich itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from botctl.rendering import words
from botctl.rendering.unsafe_text import printable
from botmaker.container.v1 import container_manager_pb2 as pb

if TYPE_CHECKING:
    from botmaker.container.v1 import container_observer_pb2 as observer_pb

NONE = "-"
Cell = list[tuple[str, str]]
"""Texts, each with a style; an empty one is none."""
_STYLES = {
    pb.CONTAINER_STATE_RUNNING: "green",
    pb.CONTAINER_STATE_RESTARTING: "yellow",
    pb.CONTAINER_STATE_PAUSED: "yellow",
    pb.CONTAINER_STATE_EXITED: "dim",
    pb.CONTAINER_STATE_DEAD: "red",
}
_HEALTH_STYLES = {pb.HEALTH_STATUS_UNHEALTHY: "red", pb.HEALTH_STATUS_STARTING: "yellow"}


def container_rows(
    containers: Sequence[pb.ContainerStatus],
    ids: Mapping[str, str],
    now: Timestamp,
    disk: Mapping[str, observer_pb.ContainerStats] | None = None,
) -> tuple[list[str], list[list[Cell]]]:
    """The titles, and a row for each container. ``ids`` has the id to show for each bot.

    ``disk`` has the sizes on the disk, by container id; ``None``: not shown.
    """
    # A column of host names only where bots have some.
    named = ["HOSTNAME"] if any(each.hostname for each in containers) else []
    # A column of machines only where there are several.
    nodes = ["NODE"] if any(each.node for each in containers) else []
    sizes = [] if disk is None else ["STATE SIZE", "LAYER SIZE"]
    titles = ["BOT", *named, "STATE", "SINCE", *nodes, "RESTARTS", *sizes, "PORTS", "IMAGE"]
    rows = []
    for each in containers:
        # Show the container name of an orphan.
        orphan = (printable(f"({each.name or each.container_id})"), "yellow")
        rows.append(
            [
                [(ids[each.bot_id], "") if each.bot_id in ids else orphan],
                *([(printable(each.hostname) or NONE, "")] for _ in named),
                state_cell(each),
                [(_since(each, now), "")],
                *([node_part(each)] for _ in nodes),
                [(str(each.restart_count) if each.restart_count else NONE, "")],
                *([] if disk is None else _sizes(disk.get(each.container_id))),
                [(ports_text(each), "")],
                [(printable(each.image), "")],
            ]
        )
    return titles, rows


def aligned(titles: Sequence[str], rows: Iterable[Sequence[Cell]]) -> list[str]:
    """The lines of such a table, for a pipe: each as long as it is, without styles and trailing blanks."""
    lines = [list(titles), *(["".join(text for text, _ in cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def state_cell(status: pb.ContainerStatus) -> Cell:
    """The state with the health, exit code and exit reason."""
    cell = [(words.state_word(status.state) or "unknown", _STYLES.get(status.state, ""))]
    if status.state == pb.CONTAINER_STATE_RUNNING and status.health:
        cell.append((f" ({words.health_word(status.health)})", _HEALTH_STYLES.get(status.health, "")))
    code = [str(status.exit_code)] if status.HasField("exit_code") else []
    if code or status.exit_reason:
        cell += [(" (", ""), exit_part(code, status.exit_reason), (")", "")]
    return cell


def exit_part(code: list[str], reason: pb.ExitReason) -> tuple[str, str]:
    """An exit code, if there is one, and the reason."""
    details = [*code, *([words.reason_word(reason).replace("_", " ")] if reason else [])]
    return ", ".join(details), "" if reason == pb.EXIT_REASON_COMPLETED else "red"


def node_part(status: pb.ContainerStatus) -> tuple[str, str]:
    """The machine, and whether it answers."""
    name = printable(status.node) or NONE
    return (f"{name} (unreachable)", "red") if status.node_unreachable else (name, "")


def ports_text(status: pb.ContainerStatus) -> str:
    """The published ports in one line."""
    return ", ".join(printable(words.port_text(port)) for port in status.ports) or NONE


def _since(status: pb.ContainerStatus, now: Timestamp) -> str:
    down = status.state in (pb.CONTAINER_STATE_EXITED, pb.CONTAINER_STATE_DEAD, pb.CONTAINER_STATE_RESTARTING)
    up = status.state in (pb.CONTAINER_STATE_RUNNING, pb.CONTAINER_STATE_PAUSED)
    order = ("finish_time",) if down else ("start_time",) if up else ()
    for name in (*order, "create_time"):
        if status.HasField(name):
            return words.since_text(getattr(status, name), now)
    return NONE


def _sizes(stats: observer_pb.ContainerStats | None) -> list[Cell]:
    return [
        [(words.size_text(getattr(stats, name)) if stats is not None and stats.HasField(name) else NONE, "")]
        for name in ("state_bytes", "layer_bytes")
    ]
