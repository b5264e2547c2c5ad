"""``botctl start``, ``stop``, ``restart`` and ``remove``: one verb for any number of bots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click
import grpc
from google.protobuf.duration_pb2 import Duration

from botctl.commands.reporting import report
from botctl.each_bot import Result
from botctl.log_reading import last_lines
from botctl.options import grace_option, selection_options, with_session
from botctl.outcomes import ExitCode
from botctl.param_types import DURATION, seconds_of
from botctl.problems import Problem
from botctl.selection import Selected, select
from botctl.session import Session
from botctl.waiting import NotWellError, wait_until_up
from botmaker.container.v1 import container_manager_pb2 as pb

_NO_CONTAINER = "no container"
_LAST_LINES = 10
_RUNNING = (pb.CONTAINER_STATE_RUNNING, pb.CONTAINER_STATE_PAUSED)


def _wait_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option(
            "--wait-timeout",
            type=DURATION,
            metavar="DURATION",
            default="60s",
            show_default=True,
            help="How long --wait waits for each bot.",
        ),
        click.option(
            "--wait",
            is_flag=True,
            help="Wait until the bot is healthy, or has run for a while where its image has no health check.",
        ),
    ):
        function = option(function)
    return function


@click.command()
@_wait_options
@selection_options
@with_session
def start(session: Session, *, wait: bool, wait_timeout: Duration, parallel: int, **selection: Any) -> None:
    """Start bots. A running one is left as it is."""

    def work(bot: Selected) -> Result:
        session.manager.StartContainer(pb.StartContainerRequest(bot_id=bot.bot_id))
        kept_running = bot.before is not None and bot.before.state in _RUNNING
        revived = bot.before.restart_count if bot.before is not None and kept_running else 0
        if wait:
            return _waited(session, bot, revived, seconds_of(wait_timeout))
        return Result(bot.bot_id, "started")

    report(session, _select(session, selection), work, doing="starting", parallel=parallel)


@click.command()
@grace_option
@selection_options
@with_session
def stop(session: Session, *, grace: Duration | None, parallel: int, **selection: Any) -> None:
    """Stop bots. They stay down until they are started again."""

    def work(bot: Selected) -> Result:
        session.manager.StopContainer(pb.StopContainerRequest(bot_id=bot.bot_id, grace_period=grace))
        return Result(bot.bot_id, "stopped" if bot.before else _NO_CONTAINER)

    report(session, _select(session, selection), work, doing="stopping", parallel=parallel)


@click.command()
@grace_option
@_wait_options
@selection_options
@with_session
def restart(
    session: Session, *, grace: Duration | None, wait: bool, wait_timeout: Duration, parallel: int, **selection: Any
) -> None:
    """Stop bots and start them again. A stopped one is started."""

    def work(bot: Selected) -> Result:
        session.manager.RestartContainer(pb.RestartContainerRequest(bot_id=bot.bot_id, grace_period=grace))
        if wait:
            return _waited(session, bot, 0, seconds_of(wait_timeout))
        return Result(bot.bot_id, "restarted")

    report(session, _select(session, selection), work, doing="restarting", parallel=parallel)


@click.command()
@grace_option
@selection_options
@with_session
def remove(session: Session, *, grace: Duration | None, parallel: int, **selection: Any) -> None:
    """Remove bots' containers, running ones too. Their secrets and their state are kept."""

    def work(bot: Selected) -> Result:
        session.manager.RemoveContainer(pb.RemoveContainerRequest(bot_id=bot.bot_id, grace_period=grace))
        return Result(bot.bot_id, "removed" if bot.before else _NO_CONTAINER)

    report(session, _select(session, selection), work, doing="removing", parallel=parallel)


def _select(session: Session, selection: dict[str, Any]) -> Sequence[Selected]:
    return select(
        session,
        selection["bot_ids"],
        all_bots=selection["all_bots"],
        only_states=selection["only_states"],
    )


def _waited(session: Session, bot: Selected, revived_before: int, timeout_seconds: float) -> Result:
    try:
        done = wait_until_up(
            lambda: session.status(bot.bot_id), revived_before=revived_before, timeout_seconds=timeout_seconds
        )
    except NotWellError as exc:
        message = f"started, and {exc}"
    except grpc.RpcError as exc:
        message = f"started; how it does is not known: {session.explain(exc).message}"
    else:
        return Result(bot.bot_id, done)
    lines = last_lines(session.observer, bot.bot_id, _LAST_LINES)
    return Result(bot.bot_id, problem=Problem(ExitCode.NOT_WELL, message), log=lines)
