"""``botctl logs``."""

from __future__ import annotations

import sys
from typing import Any

import click

from botctl.log_reading import LogReading, LogSelection
from botctl.options import bot_id_argument, with_session
from botctl.param_types import SIZE, TIME
from botctl.rendering.json_documents import log_document, write_line
from botctl.rendering.log_lines import LogWriter
from botctl.rendering.terminal import colours_on, is_terminal
from botctl.session import Session

_MAX_UINT32 = (1 << 32) - 1


@click.command()
@bot_id_argument
@click.option("--follow", "-f", is_flag=True, help="Continue with new lines until the container is removed.")
@click.option("--tail", "-n", type=click.IntRange(0, _MAX_UINT32), metavar="N", help="Start with the last N lines.")
@click.option(
    "--since",
    "--after",
    "after",
    type=TIME,
    metavar="TIME",
    help="Only lines after this time: 2026-11-24T08:30:00Z, or 10m for 10 minutes ago.",
)
@click.option("--limit-bytes", type=SIZE, metavar="SIZE", help="Stop before the lines exceed this size, such as 10k.")
@click.option("--timestamps", "-t", is_flag=True, help="Show when each line was written.")
@with_session
def logs(session: Session, bot_id: str, *, timestamps: bool, **wanted: Any) -> None:
    """Show a bot's log, standard output and standard error in order.

    --follow continues across restarts of the bot and of the service, without losing or repeating lines.
    """
    # List even for a whole id: an unavailable service is an error here, while the stream waits for it.
    whole_id = session.whole_id(bot_id)
    reading = LogReading(session.observer, LogSelection(whole_id, **wanted), session.notice)
    if session.as_json:
        for entries in reading:
            for entry in entries:
                write_line(log_document(entry))
        return
    writer = LogWriter(
        sys.stdout.buffer,
        terminal=is_terminal(sys.stdout),
        colours=colours_on(sys.stdout),
        timestamps=timestamps,
    )
    try:
        for entries in reading:
            writer.write(entries)
    finally:
        writer.close()
