"""``botctl files put``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from botctl.commands.reporting import report
from botctl.contents import SOURCE, Source, read_contents
from botctl.options import bot_id_argument, with_session
from botctl.parallel import Result
from botctl.selection import Selected
from botctl.session import Session
from botmaker.container.v1 import bot_provisioner_pb2 as pb


@click.group()
def files() -> None:
    """Write files into bots' state directories.

    BOT is a whole id for a bot without a container.
    """


@files.command("put")
@bot_id_argument
@click.argument("sources", metavar="PATH=@FILE...", nargs=-1, required=True, type=SOURCE)
@with_session
def put(session: Session, bot_id: str, sources: Sequence[Source]) -> None:
    """Write files, such as workspace/AGENTS.md=@AGENTS.md, or PATH=@- for standard input.

    PATH is relative to the bot's state directory. Missing directories are created.
    """
    request = pb.PutFilesRequest(bot_id=session.whole_id(bot_id), files=read_contents(sources))

    def work(bot: Selected) -> Result:
        session.provisioner.PutFiles(request)
        return Result(bot.bot_id, "written", details={"paths": sorted(request.files)})

    report(session, [Selected(request.bot_id, None)], work, doing="writing", parallel=1)
