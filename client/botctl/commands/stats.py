"""``botctl stats``."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click
from google.protobuf.duration_pb2 import Duration
from rich.console import RenderableType

from botctl.options import bot_id_arguments, with_session
from botctl.param_types import DURATION, seconds_of
from botctl.rendering.console import is_live
from botctl.rendering.json_documents import stats_document, write_document, write_line
from botctl.rendering.live import live_table
from botctl.rendering.tables import print_table, stats_table
from botctl.rendering.unsafe_text import printable
from botctl.rendering.words import size_text, time_text
from botctl.resuming import followed
from botctl.session import Session
from botmaker.container.v1 import container_observer_pb2 as pb

if TYPE_CHECKING:
    from botctl.rendering.tables import Sample

# A container is no longer running after this many intervals without a sample, plus the allowance.
_MISSED = 3
_ALLOWANCE_SECONDS = 3.0


# A sparkline has as many of the latest samples.
_HISTORY = 20
_ORDERS: dict[str, Callable[[Any], float]] = {
    "cpu": lambda sample: sample.cpu_percent,
    "memory": lambda sample: sample.memory_usage_bytes,
    "net": lambda sample: sample.network_rx_bytes + sample.network_tx_bytes,
    "pids": lambda sample: sample.pids,
}


class Samples:
    """The newest sample of each container that is still sampled, and the latest figures of its CPU."""

    def __init__(self, interval_seconds: float) -> None:
        self._keep_seconds = interval_seconds * _MISSED + _ALLOWANCE_SECONDS
        self._newest: dict[str, tuple[float, pb.WatchStatsResponse]] = {}
        self.cpu_histories: dict[str, deque[float]] = {}
        """By container id, the oldest figure first."""

    def add(self, sample: pb.WatchStatsResponse) -> None:
        """Adds a sample."""
        self._newest[sample.container_id] = (time.monotonic(), sample)
        self.cpu_histories.setdefault(sample.container_id, deque(maxlen=_HISTORY)).append(sample.cpu_percent)

    def current(self) -> list[pb.WatchStatsResponse]:
        """The current samples, by bot."""
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
@click.option(
    "--sort",
    type=click.Choice(["bot", *_ORDERS]),
    help="Order of a table; the largest figure comes first.  [default: cpu in a live table, otherwise bot]",
)
@click.option("--no-stream", is_flag=True, help="Print the present figures once, a few seconds old at most, and end.")
@bot_id_arguments
@with_session
def stats(session: Session, bot_ids: Sequence[str], interval: Duration, *, sort: str | None, no_stream: bool) -> None:
    """Show the resource use of running bots until Ctrl-C, or once with --no-stream.

    Shows all bots unless some are named. CPU is in percent of one core. On a terminal it updates a table, otherwise it
    prints a line for each sample.
    """
    wanted = session.whole_ids(bot_ids)
    if no_stream:
        _print_once(session, wanted, sort or "bot")
        return
    samples = Samples(seconds_of(interval))

    def open_stream() -> Any:
        return session.observer.WatchStats(pb.WatchStatsRequest(bot_ids=wanted, interval=interval))

    def render(rows: int) -> tuple[RenderableType, str]:
        current = samples.current()
        hidden = f", {len(current) - rows} not shown" if len(current) > rows else ""
        line = f"{len(current)} running{hidden}" if current else "no bot is running, or none has been sampled yet"
        shown = _sorted(current, sort or "cpu")[:rows]
        return stats_table(shown, session.out, samples.cpu_histories), f"{line}; Ctrl-C ends this"

    live = is_live(session.out) and not session.as_json
    messages: Iterable[pb.WatchStatsResponse] = followed(open_stream, session.notice)
    with live_table(session.out, render) if live else nullcontext():
        for sample in messages:
            samples.add(sample)
            if session.as_json:
                write_line(stats_document(sample))
            elif not live:
                session.out.print(_line(sample), soft_wrap=True)


def _sorted(samples: Iterable[Sample], order: str) -> list[Sample]:
    by_bot = sorted(samples, key=lambda sample: (sample.bot_id, sample.container_id))
    return by_bot if order == "bot" else sorted(by_bot, key=_ORDERS[order], reverse=True)


def _print_once(session: Session, bot_ids: Sequence[str], order: str) -> None:
    answer = session.observer.GetStats(pb.GetStatsRequest(bot_ids=bot_ids)).containers
    current = _sorted(answer, order)
    if session.as_json:
        write_document([stats_document(sample) for sample in current])
    elif current or not session.out.is_terminal:
        print_table(session.out, stats_table(current, session.out))
    else:
        session.notice("no bot is running" if not bot_ids else "no such bot is running")


def _line(sample: pb.WatchStatsResponse) -> str:
    return (
        f"{time_text(sample.time)[:19]}Z  {sample.bot_id or printable(f'({sample.container_id[:12]})')}"
        f"  cpu {sample.cpu_percent:.1f}%"
        f"  memory {size_text(sample.memory_usage_bytes)} of {size_text(sample.memory_limit_bytes)}"
        f"  net {size_text(sample.network_rx_bytes)} in, {size_text(sample.network_tx_bytes)} out"
        f"  pids {sample.pids}"
    )
