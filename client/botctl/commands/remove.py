"""``botctl remove``."""

from __future__ import annotations

from typing import Any

import click
from google.protobuf.duration_pb2 import Duration

from botctl.commands.reporting import NO_CONTAINER, report
from botctl.options import grace_option, selection_options, with_session
from botctl.parallel import Result
from botctl.selection import Selected, select
from botctl.session import Session
from botmaker.container.v1 import container_manager_pb2 as pb


@click.command()
@grace_option
@selection_options
@with_session
def remove(session: Session, *, grace: Duration | None, parallel: int, **selection: Any) -> None:
    """Remove bots' containers, even running ones. Their secrets and state are kept."""

    def work(bot: Selected) -> Result:
        session.manager.RemoveContainer(pb.RemoveContainerRequest(bot_id=bot.bot_id, grace_period=grace))
        return Result(bot.bot_id, "removed" if bot.before else NO_CONTAINER)

    report(session, select(session, **selection), work, doing="removing", parallel=parallel)
