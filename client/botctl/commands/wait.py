"""``botctl wait``."""

from __future__ import annotations

import time
from typing import Any

import click
import grpc
from google.protobuf.duration_pb2 import Duration

from botctl.commands.reporting import Progress, report
from botctl.commands.start import wait_for_bot
from botctl.exit_codes import ExitCode
from botctl.options import selection_options, with_session
from botctl.parallel import Result
from botctl.param_types import DURATION, seconds_of
from botctl.problems import Problem
from botctl.rendering.words import reason_word
from botctl.selection import Selected, select
from botctl.session import Session
from botmaker.container.v1 import container_manager_pb2 as pb

_LOOK_SECONDS = 0.5
_ENDED = (pb.CONTAINER_STATE_EXITED, pb.CONTAINER_STATE_DEAD)


@click.command()
@click.option(
    "--for",
    "wanted",
    type=click.Choice(["ready", "exited"]),
    default="ready",
    show_default=True,
    help="What to wait for: ready as `start --wait` has it, or the end of the process.",
)
@click.option("--timeout", type=DURATION, metavar="DURATION", default="120s", show_default=True, help="For each bot.")
@selection_options
@with_session
def wait(session: Session, *, wanted: str, timeout: Duration, parallel: int, **selection: Any) -> None:
    """Wait until bots are ready, or with --for exited until they have ended.

    The exit code is 8 if one is not in time, or cannot be.
    """
    progress = Progress()

    def work(bot: Selected) -> Result:
        if wanted == "exited":
            return _wait_for_end(session, bot.bot_id, seconds_of(timeout))
        restart_count = bot.before.restart_count if bot.before is not None else 0
        return wait_for_bot(session, bot, restart_count, seconds_of(timeout), progress, before="")

    report(session, select(session, **selection), work, doing="waiting for", parallel=parallel, progress=progress)


def _wait_for_end(session: Session, bot_id: str, timeout_seconds: float) -> Result:
    ends = time.monotonic() + timeout_seconds
    while True:
        try:
            status = session.status(bot_id)
        except grpc.RpcError as exc:
            # It may be restarting.
            if exc.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() >= ends:
                raise
        else:
            if status is None:
                return Result(bot_id, problem=Problem(ExitCode.NOT_FOUND, "it has no container"))
            if status.state in _ENDED:
                return Result(bot_id, f"exited ({status.exit_code}, {reason_word(status.exit_reason)})")
        if time.monotonic() >= ends:
            return Result(bot_id, problem=Problem(ExitCode.NOT_UP, f"has not ended within {timeout_seconds:g} s"))
        time.sleep(_LOOK_SECONDS)
