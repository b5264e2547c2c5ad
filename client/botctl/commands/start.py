"""``botctl start``, and its option ``--wait``, which ``restart`` shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import grpc
from google.protobuf.duration_pb2 import Duration

from botctl.actions import probe
from botctl.commands.reporting import Progress, report
from botctl.exit_codes import ExitCode
from botctl.log_reading import last_lines
from botctl.options import selection_options, with_session
from botctl.parallel import Result
from botctl.param_types import DURATION, seconds_of
from botctl.problems import Problem
from botctl.selection import Selected, select
from botctl.session import Session
from botctl.waiting import NotReadyError, wait_until_ready
from botmaker.container.v1 import container_manager_pb2 as pb

_LAST_LINES = 10
_RUNNING = (pb.CONTAINER_STATE_RUNNING, pb.CONTAINER_STATE_PAUSED)


def wait_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--wait`` and ``--wait-timeout``."""
    for option in (
        click.option(
            "--wait-timeout",
            type=DURATION,
            metavar="DURATION",
            default="120s",
            show_default=True,
            help="How long --wait waits for each bot.",
        ),
        click.option(
            "--wait",
            is_flag=True,
            help="Wait until the bot is ready: by its health check, its action ready, or by running for 10 s.",
        ),
    ):
        function = option(function)
    return function


@click.command()
@wait_options
@selection_options
@with_session
def start(session: Session, *, wait: bool, wait_timeout: Duration, parallel: int, **selection: Any) -> None:
    """Start bots. A running bot is not changed."""
    progress = Progress()

    def work(bot: Selected) -> Result:
        session.manager.StartContainer(pb.StartContainerRequest(bot_id=bot.bot_id))
        if not wait:
            return Result(bot.bot_id, "started")
        was_running = bot.before is not None and bot.before.state in _RUNNING
        restart_count = bot.before.restart_count if bot.before is not None and was_running else 0
        return wait_for_bot(session, bot, restart_count, seconds_of(wait_timeout), progress)

    report(session, select(session, **selection), work, doing="starting", parallel=parallel, progress=progress)


def wait_for_bot(
    session: Session,
    bot: Selected,
    restart_count: int,
    timeout_seconds: float,
    progress: Progress,
    *,
    before: str = "started, ",
) -> Result:
    """Waits until the bot is ready. ``restart_count``: the container's, right after the start.

    ``before``: what a message of a failure begins with.
    """
    try:
        ready = wait_until_ready(
            lambda: session.status(bot.bot_id),
            lambda: probe(session.maintainer, bot.bot_id),
            restart_count=restart_count,
            timeout_seconds=timeout_seconds,
            on_progress=lambda message: progress.report(bot.bot_id, message),
        )
    except NotReadyError as exc:
        message = f"{before}and {exc}" if before else str(exc)
    except grpc.RpcError as exc:
        message = f"{before}{'but ' if before else ''}its state is unknown: {session.explain(exc).message}"
    else:
        return Result(bot.bot_id, ready.done, remark=ready.remark)
    lines = last_lines(session.observer, bot.bot_id, _LAST_LINES)
    return Result(bot.bot_id, problem=Problem(ExitCode.NOT_UP, message), log=lines)
