"""Tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Table
from rich.text import Text

from botctl.rendering import words
from botctl.rendering.cells import NONE, container_rows, exit_part, node_part, ports_text, state_cell
from botctl.rendering.unsafe_text import printable
from botmaker.container.v1 import container_manager_pb2 as pb

if TYPE_CHECKING:
    from botmaker.container.v1 import bot_provisioner_pb2 as provisioner_pb
    from botmaker.container.v1 import container_maintainer_pb2 as maintainer_pb
    from botmaker.container.v1 import container_observer_pb2 as observer_pb

    Sample = observer_pb.WatchStatsResponse | observer_pb.ContainerStats

# On narrower terminals, ids are shortened to unique prefixes.
_WIDE = 120
# On still narrower ones, stats leave out what changes least.
_NARROW = 80
_BARS = "▁▂▃▄▅▆▇█"
_SHORT_CONTAINER_ID = 12
_PORTS_SHARE = 5


def containers_table(
    containers: Sequence[pb.ContainerStatus],
    console: Console,
    now: Timestamp,
    disk: Mapping[str, observer_pb.ContainerStats] | None = None,
) -> Table:
    """One row for each container. ``disk`` has the sizes on the disk, by container id; ``None``: not shown."""
    titles, rows = container_rows(containers, _ids([each.bot_id for each in containers], console), now, disk)
    table = _table(*titles)
    # On a terminal the image gets the rest of the line. A port is never cut, because that would change its number.
    table.expand = console.is_terminal
    if console.is_terminal:
        table.columns[-2].max_width, table.columns[-1].ratio = console.width // _PORTS_SHARE, 1
    for row in rows:
        table.add_row(*(Text.assemble(*cell) for cell in row))
    return table


def stats_table(
    samples: Iterable[Sample], console: Console, cpu_histories: Mapping[str, Iterable[float]] | None = None
) -> Table:
    """One row for each running container; a narrow terminal gets fewer columns, and a wide one ``cpu_histories``."""
    rows = list(samples)
    ids = _ids([each.bot_id for each in rows], console)
    titles = ["BOT", "CPU", "MEMORY", "OF", "NET IN", "NET OUT", "PIDS"]
    if console.is_terminal and console.width < _NARROW:
        titles = ["BOT", "CPU", "MEMORY", "PIDS"]
    with_histories = cpu_histories is not None and console.is_terminal and console.width >= _WIDE
    table = _table(*titles, numbers_from=1)
    if with_histories:
        table.add_column("CPU, LATEST LAST", no_wrap=True)
    for each in rows:
        cells = {
            "BOT": ids.get(each.bot_id) or _orphan(each.container_id),
            "CPU": f"{each.cpu_percent:.1f}%",
            "MEMORY": words.size_text(each.memory_usage_bytes),
            "OF": words.size_text(each.memory_limit_bytes),
            "NET IN": words.size_text(each.network_rx_bytes),
            "NET OUT": words.size_text(each.network_tx_bytes),
            "PIDS": str(each.pids),
        }
        history = [sparkline(cpu_histories.get(each.container_id, ()))] if with_histories and cpu_histories else []
        table.add_row(*(cells[title] for title in titles), *history)
    return table


def sparkline(percents: Iterable[float]) -> str:
    """A bar for each figure. A full one is a whole core, or the largest figure if that is more."""
    figures = list(percents)
    most = max([100.0, *figures])
    return "".join(_BARS[min(int(figure / most * len(_BARS)), len(_BARS) - 1)] for figure in figures)


def details_table(status: pb.ContainerStatus, now: Timestamp) -> Table:
    """All details of one container, one per line."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    rows: list[tuple[str, str | Text]] = [
        ("Bot", status.bot_id or NONE),
        *([("Hostname", printable(status.hostname))] if status.hostname else []),
        ("State", Text.assemble(*state_cell(status))),
        *([("Node", Text.assemble(node_part(status)))] if status.node or status.node_unreachable else []),
        ("Container", printable(status.container_id)),
        ("Name", printable(status.name)),
        ("Image", printable(status.image)),
        ("Image id", printable(status.image_id)),
        *((title, _moment(status, name, now)) for title, name in _MOMENTS if status.HasField(name)),
        ("Restarts", str(status.restart_count)),
        *_last_exit(status, now),
        ("Ports", ports_text(status)),
        *(
            ("" if index else "Labels", printable(f"{key}={value}"))
            for index, (key, value) in enumerate(sorted(status.labels.items()))
        ),
    ]
    if status.error:
        rows.append(("Error", Text(words.one_line(status.error), style="red")))
    for title, value in rows:
        table.add_row(title, value)
    return table


def secrets_table(secrets: Sequence[provisioner_pb.SecretInfo], now: Timestamp) -> Table:
    """Secret files, without their contents."""
    table = _table("NAME", "SIZE", "WRITTEN")
    for secret in secrets:
        table.add_row(
            printable(secret.name),
            words.size_text(secret.size_bytes),
            f"{words.since_text(secret.time, now)} ago",
        )
    return table


def backups_table(backups: Sequence[maintainer_pb.Backup], now: Timestamp) -> Table:
    """Backups, each with its whole id."""
    table = _table("BACKUP", "SIZE", "MADE", "IMAGE")
    for backup in backups:
        made = f"{words.since_text(backup.create_time, now)} ago"
        table.add_row(backup.backup_id, words.size_text(backup.size_bytes), made, printable(backup.image) or NONE)
    return table


def upgrades_table(rows: Iterable[tuple[str, str, str]]) -> Table:
    """Upgrades under way: each bot, its phase, and what is being done."""
    table = _table("BOT", "PHASE", "")
    for bot_id, phase, message in rows:
        table.add_row(bot_id, phase, printable(message))
    return table


def print_table(console: Console, table: Table) -> None:
    """Prints a table. In a pipe, lines have no trailing blanks."""
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as capture:
        console.print(table)
    console.file.writelines(f"{line.rstrip()}\n" for line in capture.get().splitlines())


_MOMENTS = (("Created", "create_time"), ("Started", "start_time"), ("Finished", "finish_time"))


def _moment(status: pb.ContainerStatus, name: str, now: Timestamp) -> str:
    return _time_ago(getattr(status, name), now)


def _time_ago(time: Timestamp, now: Timestamp) -> str:
    return f"{words.time_text(time)} ({words.since_text(time, now)} ago)"


def _last_exit(status: pb.ContainerStatus, now: Timestamp) -> list[tuple[str, str | Text]]:
    if not status.HasField("last_exit"):
        return []
    last = status.last_exit
    moment = Text(f", {_time_ago(last.finish_time, now)}")
    return [("Last exit", Text.assemble(exit_part([str(last.exit_code)], last.exit_reason), moment))]


def _orphan(container_id: str) -> Text:
    return Text(printable(f"({container_id[:_SHORT_CONTAINER_ID]})"), style="yellow")


def _ids(bot_ids: list[str], console: Console) -> dict[str, str]:
    known = [bot_id for bot_id in bot_ids if bot_id]
    if console.is_terminal and console.width < _WIDE:
        return words.short_ids(known)
    return {bot_id: bot_id for bot_id in known}


def _table(*titles: str, numbers_from: int | None = None) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, title in enumerate(titles):
        right = numbers_from is not None and index >= numbers_from
        # Cut a cell that does not fit, so that each row stays on one line.
        table.add_column(title, justify="right" if right else "left", no_wrap=True, overflow="ellipsis")
    return table
