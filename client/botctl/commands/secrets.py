"""``botctl secrets put``, ``reload``, ``list`` and ``rm``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from botctl.commands.reporting import report
from botctl.contents import SOURCE, Source, read_contents
from botctl.options import bot_id_argument, with_session
from botctl.parallel import Result
from botctl.rendering.json_documents import secret_document, write_document
from botctl.rendering.tables import print_table, secrets_table
from botctl.rendering.words import now
from botctl.selection import Selected
from botctl.session import Session
from botmaker.container.v1 import bot_provisioner_pb2 as pb

Reload = pb.ReloadSecretsRequest
_OUTCOMES = {
    pb.ReloadSecretsResponse.OUTCOME_UNSPECIFIED: "done",
    pb.ReloadSecretsResponse.OUTCOME_RELOADED: "reloaded",
    pb.ReloadSecretsResponse.OUTCOME_RESTARTED: "restarted",
    pb.ReloadSecretsResponse.OUTCOME_NOT_RUNNING: "not running",
}


@click.group()
def secrets() -> None:
    """Write, reload, list and remove bots' secret files. Their contents are never shown.

    BOT is a whole id for a bot without a container.
    """


@secrets.command("put")
@bot_id_argument
@click.argument("sources", metavar="NAME=@FILE...", nargs=-1, type=SOURCE)
@click.option("--replace-all", is_flag=True, help="Remove all other secrets of the bot.")
@with_session
def put(session: Session, bot_id: str, sources: Sequence[Source], *, replace_all: bool) -> None:
    """Write secret files, such as GATEWAY_TOKEN=@token, or GATEWAY_TOKEN=@- for standard input.

    The bot's secrets directory is created if it is missing. A file is sent as it is, with its last newline.
    """
    if not sources and not replace_all:
        raise click.UsageError("name at least one secret: NAME=@FILE")
    request = pb.PutSecretsRequest(
        bot_id=session.whole_id(bot_id), secrets=read_contents(sources), replace_all=replace_all
    )

    def work(bot: Selected) -> Result:
        session.provisioner.PutSecrets(request)
        return Result(bot.bot_id, "written", details={"names": sorted(request.secrets)})

    report(session, [Selected(request.bot_id, None)], work, doing="writing", parallel=1)


@secrets.command("reload")
@bot_id_argument
@click.option("--or-restart", is_flag=True, help="Restart the bot if it cannot reload its secrets.")
@with_session
def reload(session: Session, bot_id: str, *, or_restart: bool) -> None:
    """Have a running bot read its secrets anew.

    The bot proves that it uses its new GATEWAY_TOKEN. Other secrets cannot be proved.
    """
    mode = Reload.MODE_RELOAD_OR_RESTART if or_restart else Reload.MODE_RELOAD
    request = Reload(bot_id=session.whole_id(bot_id), mode=mode)

    def work(bot: Selected) -> Result:
        response = session.provisioner.ReloadSecrets(request)
        return Result(bot.bot_id, _OUTCOMES[response.outcome], details={"confirmed": [*response.confirmed]})

    report(session, [Selected(request.bot_id, None)], work, doing="reloading", parallel=1)


@secrets.command("list")
@bot_id_argument
@with_session
def list_secrets(session: Session, bot_id: str) -> None:
    """List a bot's secret files: names, sizes and times."""
    request = pb.ListSecretsRequest(bot_id=session.whole_id(bot_id))
    found = session.provisioner.ListSecrets(request).secrets
    if session.as_json:
        write_document([secret_document(each) for each in found])
    elif found or not session.out.is_terminal:
        print_table(session.out, secrets_table(found, now()))
    else:
        session.notice("the bot has no secrets")


@secrets.command("rm")
@bot_id_argument
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--all", "all_secrets", is_flag=True, help="The whole directory. The bot may have no container.")
@with_session
def remove(session: Session, bot_id: str, names: Sequence[str], *, all_secrets: bool) -> None:
    """Remove secret files. Those that do not exist are ignored."""
    # Without names, the request would remove everything.
    if all_secrets == bool(names):
        raise click.UsageError("name secrets or give --all" + (", not both" if names else ""))
    request = pb.DeleteSecretsRequest(bot_id=session.whole_id(bot_id), names=names)

    def work(bot: Selected) -> Result:
        session.provisioner.DeleteSecrets(request)
        return Result(bot.bot_id, "removed", details={"names": sorted(names)})

    report(session, [Selected(request.bot_id, None)], work, doing="removing", parallel=1)
