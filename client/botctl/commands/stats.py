"""``botctl stats``."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Any

import click
from google.protobuf.duration_pb2 import Duration
from rich.console import RenderableType

from botctl.options import bot_id_arguments, with_session
from botctl.param_types import DURATION, seconds_of
from botctl.rendering.console import is_live
from botctl.rendering.json_documents import stats_document, write_document, write_line
from botctl.rendering.live import live_table
from botctl.rendering.tables import print_table, stats_table
from botctl.rendering.words import size_text, time_text
from botctl.resuming import resumed
from botctl.selection import watched_ids
from botctl.session import Session
from botmaker.container.v1 import container_observer_pb2 as pb

# A container is no longer running after this many intervals without a sample, plus the allowance.
_MISSED = 3
_ALLOWANCE_SECONDS = 3.0


class Samples:
    """The newest sample of each container that is still sampled."""

    def __init__(self, interval_seconds: float) -> None:
        self._keep_seconds = interval_seconds * _MISSED + _ALLOWANCE_SECONDS
        self._newest: dict[str, tuple[float, pb.WatchStatsResponse]] = {}

    def add(self, sample: pb.WatchStatsResponse) -> None:
        """Adds a sample."""
        self._newest[sample.container_id] = (time.monotonic(), sample)

    def current(self) -> list[pb.WatchStatsResponse]:
        """The current samples, in a stable order."""
        oldest = time.monotonic() - self._keep_seconds
        current = [sample for taken, sample in list(self._newest.values()) if taken >= oldest]
        return sorted(current, key=lambda sample: (sample.bot_id, sample.container_id))


@click.command()
@click.option(
    "--interval",
    type=DURATION,
    metavar="DURATION",
    default="2s",
    show_default=True,
    help="Time between two samples of a bot, 500ms to 1h.",
)
@click.option("--no-stream", is_flag=True, help="Print the present figures once, a few seconds old at most, and end.")
@bot_id_arguments
@with_session
def stats(session: Session, bot_ids: Sequence[str], interval: Duration, no_stream: bool) -> None:
    """Show the resource use of running bots until Ctrl-C, or once with --no-stream.

    Shows all bots unless some are named. CPU is in percent of one core. On a terminal it updates a table, otherwise it
    prints a line for each sample.
    """
    wanted = watched_ids(session, bot_ids)
    if no_stream:
        _print_once(session, wanted)
        return
    samples = Samples(seconds_of(interval))

    def open_stream() -> Any:
        return session.observer.WatchStats(pb.WatchStatsRequest(bot_ids=wanted, interval=interval))

    def render(rows: int) -> tuple[RenderableType, str]:
        current = samples.current()
        hidden = f", {len(current) - rows} not shown" if len(current) > rows else ""
        line = f"{len(current)} running{hidden}" if current else "no bot is running, or none has been sampled yet"
        return stats_table(current[:rows], session.out), f"{line}; Ctrl-C ends this"

    live = is_live(session.out) and not session.as_json
    messages: Iterable[pb.WatchStatsResponse] = resumed(open_stream, session.notice)
    with live_table(session.out, render) if live else nullcontext():
        for sample in messages:
            samples.add(sample)
            if session.as_json:
                write_line(stats_document(sample))
            elif not live:
                session.out.print(_line(sample), soft_wrap=True)


def _print_once(session: Session, bot_ids: Sequence[str]) -> None:
    answer = session.observer.GetStats(pb.GetStatsRequest(bot_ids=bot_ids)).containers
    current = sorted(answer, key=lambda sample: (sample.bot_id, sample.container_id))
    if session.as_json:
        write_document([stats_document(sample) for sample in current])
    elif current or not session.out.is_terminal:
        print_table(session.out, stats_table(current, session.out))
    else:
        session.notice("no bot is running" if not bot_ids else "no such bot is running")


def _line(sample: pb.WatchStatsResponse) -> str:
    return (
        f"{time_text(sample.time)[:19]}Z  {sample.bot_id or f'({sample.container_id[:12]})'}"
        f"  cpu {sample.cpu_percent:.1f}%"
        f"  memory {size_text(sample.memory_usage_bytes)} of {size_text(sample.memory_limit_bytes)}"
        f"  net {size_text(sample.network_rx_bytes)} in, {size_text(sample.network_tx_bytes)} out"
        f"  pids {sample.pids}"
    )
