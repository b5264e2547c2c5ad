"""Tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Table
from rich.text import Text

from botctl.rendering import words
from botmaker.container.v1 import container_manager_pb2 as pb

if TYPE_CHECKING:
    from botmaker.container.v1 import bot_provisioner_pb2 as provisioner_pb
    from botmaker.container.v1 import container_maintainer_pb2 as maintainer_pb
    from botmaker.container.v1 import container_observer_pb2 as observer_pb

    Sample = observer_pb.WatchStatsResponse | observer_pb.ContainerStats

_NONE = "-"
# On narrower terminals, ids are shortened to unique prefixes.
_WIDE = 120
# On still narrower ones, stats leave out what changes least.
_NARROW = 80
_BARS = "▁▂▃▄▅▆▇█"
_SHORT_CONTAINER_ID = 12
_PORTS_SHARE = 5
_STYLES = {
    pb.CONTAINER_STATE_RUNNING: "green",
    pb.CONTAINER_STATE_RESTARTING: "yellow",
    pb.CONTAINER_STATE_PAUSED: "yellow",
    pb.CONTAINER_STATE_EXITED: "dim",
    pb.CONTAINER_STATE_DEAD: "red",
}
_HEALTH_STYLES = {pb.HEALTH_STATUS_UNHEALTHY: "red", pb.HEALTH_STATUS_STARTING: "yellow"}


def containers_table(
    containers: Sequence[pb.ContainerStatus],
    console: Console,
    now: Timestamp,
    disk: Mapping[str, observer_pb.ContainerStats] | None = None,
) -> Table:
    """One row for each container. ``disk`` has the sizes on the disk, by container id; ``None``: not shown."""
    # A column of host names only where bots have some.
    named = ["HOSTNAME"] if any(each.hostname for each in containers) else []
    # A column of machines only where there are several.
    nodes = ["NODE"] if any(each.node for each in containers) else []
    sizes = [] if disk is None else ["STATE SIZE", "LAYER SIZE"]
    table = _table("BOT", *named, "STATE", "SINCE", *nodes, "RESTARTS", *sizes, "PORTS", "IMAGE")
    # On a terminal the image gets the rest of the line. A port is never cut, because that would change its number.
    table.expand = console.is_terminal
    if console.is_terminal:
        table.columns[-2].max_width, table.columns[-1].ratio = console.width // _PORTS_SHARE, 1
    ids = _ids([each.bot_id for each in containers], console)
    for each in containers:
        table.add_row(
            # Show the container name of an orphan.
            ids.get(each.bot_id) or Text(words.printable(f"({each.name or each.container_id})"), style="yellow"),
            *(Text(words.printable(each.hostname) or _NONE) for _ in named),
            state_text(each),
            _since(each, now),
            *(_node(each) for _ in nodes),
            str(each.restart_count) if each.restart_count else _NONE,
            *([] if disk is None else _sizes(disk.get(each.container_id))),
            Text(_ports(each)),
            Text(words.printable(each.image)),
        )
    return table


def _node(status: pb.ContainerStatus) -> Text:
    name = words.printable(status.node) or _NONE
    return Text(f"{name} (unreachable)", style="red") if status.node_unreachable else Text(name)


def _sizes(stats: observer_pb.ContainerStats | None) -> list[str]:
    return [
        words.size_text(getattr(stats, name)) if stats is not None and stats.HasField(name) else _NONE
        for name in ("state_bytes", "layer_bytes")
    ]


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
            "BOT": ids.get(each.bot_id) or Text(f"({each.container_id[:_SHORT_CONTAINER_ID]})", style="yellow"),
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
        ("Bot", status.bot_id or _NONE),
        *([("Hostname", words.printable(status.hostname))] if status.hostname else []),
        ("State", state_text(status)),
        *([("Node", _node(status))] if status.node or status.node_unreachable else []),
        ("Container", status.container_id),
        ("Name", words.printable(status.name)),
        ("Image", words.printable(status.image)),
        ("Image id", status.image_id),
        *((title, _moment(status, name, now)) for title, name in _MOMENTS if status.HasField(name)),
        ("Restarts", str(status.restart_count)),
        *_last_exit(status, now),
        ("Ports", _ports(status)),
        *(
            ("" if index else "Labels", words.printable(f"{key}={value}"))
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
        table.add_row(secret.name, words.size_text(secret.size_bytes), f"{words.since_text(secret.time, now)} ago")
    return table


def backups_table(backups: Sequence[maintainer_pb.Backup], now: Timestamp) -> Table:
    """Backups, each with its whole id."""
    table = _table("BACKUP", "SIZE", "MADE", "IMAGE")
    for backup in backups:
        made = f"{words.since_text(backup.create_time, now)} ago"
        table.add_row(backup.backup_id, words.size_text(backup.size_bytes), made, backup.image or _NONE)
    return table


def upgrades_table(rows: Iterable[tuple[str, str, str]]) -> Table:
    """Upgrades under way: each bot, its phase, and what is being done."""
    table = _table("BOT", "PHASE", "")
    for bot_id, phase, message in rows:
        table.add_row(bot_id, phase, words.printable(message))
    return table


def print_table(console: Console, table: Table) -> None:
    """Prints a table. In a pipe, lines have no trailing blanks."""
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as capture:
        console.print(table)
    console.file.writelines(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def state_text(status: pb.ContainerStatus) -> Text:
    """The state with the health, exit code and exit reason."""
    text = Text(words.state_word(status.state) or "unknown", style=_STYLES.get(status.state, ""))
    if status.state == pb.CONTAINER_STATE_RUNNING and status.health:
        text.append(f" ({words.health_word(status.health)})", style=_HEALTH_STYLES.get(status.health, ""))
    code = [str(status.exit_code)] if status.HasField("exit_code") else []
    if code or status.exit_reason:
        text = Text.assemble(text, " (", _exit_text(code, status.exit_reason), ")")
    return text


def _exit_text(code: list[str], reason: pb.ExitReason) -> Text:
    """An exit code, if there is one, and the reason."""
    details = [*code, *([words.reason_word(reason).replace("_", " ")] if reason else [])]
    return Text(", ".join(details), style="" if reason == pb.EXIT_REASON_COMPLETED else "red")


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
    return [("Last exit", Text.assemble(_exit_text([str(last.exit_code)], last.exit_reason), moment))]


def _since(status: pb.ContainerStatus, now: Timestamp) -> str:
    down = status.state in (pb.CONTAINER_STATE_EXITED, pb.CONTAINER_STATE_DEAD, pb.CONTAINER_STATE_RESTARTING)
    up = status.state in (pb.CONTAINER_STATE_RUNNING, pb.CONTAINER_STATE_PAUSED)
    order = ("finish_time",) if down else ("start_time",) if up else ()
    for name in (*order, "create_time"):
        if status.HasField(name):
            return words.since_text(getattr(status, name), now)
    return _NONE


def _ports(status: pb.ContainerStatus) -> str:
    return ", ".join(words.printable(words.port_text(port)) for port in status.ports) or _NONE


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
