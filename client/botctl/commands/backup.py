"""``botctl backup create``, ``list``, ``rm`` and ``restore``."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import click

from botctl.commands.reporting import Progress, report
from botctl.options import bot_id_argument, selection_options, with_session
from botctl.parallel import Result
from botctl.rendering.json_documents import backup_document, write_document
from botctl.rendering.tables import backups_table, print_table
from botctl.rendering.words import now, progress_text, restore_word, size_text
from botctl.resuming import resumed
from botctl.selection import Selected, select
from botctl.session import Session
from botmaker.container.v1 import container_maintainer_pb2 as pb


@click.group()
def backup() -> None:
    """Back up bots' states and configurations into the server's backup directory, and restore them.

    A backup has the bot's secrets only if the service encrypts them for its operator.
    """


@backup.command("create")
@click.option("--stop", "stops", is_flag=True, help="Stop a running bot for the copy instead of pausing it.")
@click.option(
    "--keep",
    type=click.IntRange(1, 10_000),
    metavar="N",
    help="Afterwards remove the bot's backups but the N newest.  [default: keep all]",
)
@selection_options
@with_session
def create(session: Session, *, stops: bool, keep: int | None, parallel: int, **selection: Any) -> None:
    """Back up bots. A running bot is paused while its state is copied, which takes seconds."""
    progress = Progress()

    def work(bot: Selected) -> Result:
        request = pb.CreateBackupRequest(bot_id=bot.bot_id, request_id=str(uuid.uuid4()), stop_and_restart=stops)
        made = pb.Backup()
        # The same request id joins the backup that goes on while the service is away.
        events: Iterator[pb.CreateBackupResponse] = resumed(
            lambda: session.maintainer.CreateBackup(request), session.notice
        )
        for event in events:
            if event.HasField("backup"):
                made = event.backup
            else:
                progress.report(bot.bot_id, _progress_text(event.progress))
        removed = [] if keep is None else _remove_old(session, bot.bot_id, keep)
        remark = f"{made.backup_id}  {size_text(made.size_bytes)}"
        if removed:
            remark += f", {len(removed)} old removed"
        return Result(bot.bot_id, "backed up", remark=remark, details={**backup_document(made), "removed": removed})

    report(session, select(session, **selection), work, doing="backing up", parallel=parallel, progress=progress)


@backup.command("list")
@click.argument("bot_id", metavar="[BOT]", required=False)
@with_session
def list_backups(session: Session, bot_id: str | None) -> None:
    """List the backups of a bot, or of all bots, newest first."""
    wanted = "" if bot_id is None else session.whole_id(bot_id)
    backups = session.maintainer.ListBackups(pb.ListBackupsRequest(bot_id=wanted)).backups
    if session.as_json:
        write_document([backup_document(each) for each in backups])
    elif backups or not session.out.is_terminal:
        print_table(session.out, backups_table(backups, now()))
    else:
        session.notice("there are no backups")


@backup.command("rm")
@click.argument("backup_ids", metavar="BACKUP...", nargs=-1, required=True)
@with_session
def remove(session: Session, backup_ids: Sequence[str]) -> None:
    """Remove backups."""
    for backup_id in backup_ids:
        session.maintainer.DeleteBackup(pb.DeleteBackupRequest(backup_id=backup_id))
        if not session.as_json:
            session.out.print(f"{backup_id}  removed", soft_wrap=True, highlight=False, markup=False)
    if session.as_json:
        write_document([{"backup_id": backup_id, "result": "removed"} for backup_id in backup_ids])


@backup.command("restore")
@bot_id_argument
@click.argument("backup_id", metavar="BACKUP")
@with_session
def restore(session: Session, bot_id: str, backup_id: str) -> None:
    """Give a bot the state of a backup, which another bot or another machine may have made.

    The whole backup is verified before anything is changed. A running bot gets its former state back if it does not
    become ready. A bot without a container gets one as the backup describes it.
    """
    whole_id = session.whole_id(bot_id)
    request = pb.RestoreBackupRequest(bot_id=whole_id, backup_id=backup_id, request_id=str(uuid.uuid4()))
    progress = Progress()
    # Fails at once if there is no service, or none with backups.
    session.maintainer.ListBackups(pb.ListBackupsRequest(bot_id=whole_id))

    def work(bot: Selected) -> Result:
        events: Iterator[pb.RestoreBackupResponse] = resumed(
            lambda: session.maintainer.RestoreBackup(request), session.notice
        )
        for event in events:
            text = _progress_text(event.progress) if event.HasField("progress") else event.message
            progress.report(bot.bot_id, f"{restore_word(event.phase)}: {text}")
        return Result(bot.bot_id, "restored", details={"backup_id": backup_id})

    report(session, [Selected(whole_id, None)], work, doing="restoring", parallel=1, progress=progress)


def _remove_old(session: Session, bot_id: str, keep: int) -> list[str]:
    backups = session.maintainer.ListBackups(pb.ListBackupsRequest(bot_id=bot_id)).backups
    old = [each.backup_id for each in backups[keep:]]
    for backup_id in old:
        session.maintainer.DeleteBackup(pb.DeleteBackupRequest(backup_id=backup_id))
    return old


def _progress_text(progress: pb.BackupProgress) -> str:
    if not progress.total_bytes:
        return progress.message
    return f"{progress.message}, {progress_text(progress.done_bytes, progress.total_bytes)}"
