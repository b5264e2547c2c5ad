"""``botctl restart``."""

from __future__ import annotations

from typing import Any

import click
from google.protobuf.duration_pb2 import Duration

from botctl.commands.reporting import Progress, report
from botctl.commands.start import wait_for_bot, wait_options
from botctl.options import grace_option, selection_options, with_session
from botctl.parallel import Result
from botctl.param_types import seconds_of
from botctl.selection import Selected, select
from botctl.session import Session
from botmaker.container.v1 import container_manager_pb2 as pb


@click.command()
@grace_option
@wait_options
@selection_options
@with_session
def restart(
    session: Session, *, grace: Duration | None, wait: bool, wait_timeout: Duration, parallel: int, **selection: Any
) -> None:
    """Stop bots and start them again. A stopped bot is started."""
    progress = Progress()

    def work(bot: Selected) -> Result:
        session.manager.RestartContainer(pb.RestartContainerRequest(bot_id=bot.bot_id, grace_period=grace))
        if wait:
            return wait_for_bot(session, bot, 0, seconds_of(wait_timeout), progress)
        return Result(bot.bot_id, "restarted")

    report(session, select(session, **selection), work, doing="restarting", parallel=parallel, progress=progress)
