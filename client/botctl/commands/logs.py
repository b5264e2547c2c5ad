"""``botctl logs``."""

from __future__ import annotations

import sys
from typing import Any

import click

from botctl.bot_ids import whole_ids
from botctl.log_reading import LogReading, Wanted
from botctl.options import bot_id_argument, with_session
from botctl.param_types import SIZE, TIME
from botctl.rendering.documents import log_document, write_line
from botctl.rendering.log_lines import LogWriter
from botctl.rendering.terminal import colours_on, is_terminal
from botctl.session import Session

_MAX_UINT32 = (1 << 32) - 1


@click.command()
@bot_id_argument
@click.option("--follow", "-f", is_flag=True, help="Go on with what it writes, until its container is removed.")
@click.option("--tail", "-n", type=click.IntRange(0, _MAX_UINT32), metavar="N", help="Begin with the last N lines.")
@click.option(
    "--after",
    type=TIME,
    metavar="TIME",
    help="Only what was written later than that: 2026-11-24T08:30:00Z, or 10m for so long ago.",
)
@click.option("--limit-bytes", type=SIZE, metavar="SIZE", help="End before there are more bytes of lines, as in 10k.")
@click.option("--timestamps", "-t", is_flag=True, help="Show when each line was written.")
@with_session
def logs(session: Session, bot_id: str, *, timestamps: bool, **wanted: Any) -> None:
    """Show what a bot has written, both streams in their order.

    Following goes on across restarts of the bot and of the service, with no line lost or doubled.
    """
    # Asked for a whole id, too: a service that is away is an error now, and waited for later.
    (whole_id,) = whole_ids([bot_id], (each.bot_id for each in session.containers()))
    reading = LogReading(session.observer, Wanted(whole_id, **wanted), session.notice)
    if session.as_json:
        for entry in reading:
            write_line(log_document(entry))
        return
    writer = LogWriter(
        sys.stdout.buffer,
        terminal=is_terminal(sys.stdout),
        colours=colours_on(sys.stdout),
        timestamps=timestamps,
    )
    try:
        for entry in reading:
            writer.write(entry)
    finally:
        writer.close()
