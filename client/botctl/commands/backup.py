"""``botctl backup create``, ``list``, ``rm`` and ``restore``."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import click
import grpc

from botctl.commands.reporting import Progress, report
from botctl.exit_codes import ExitCode
from botctl.options import bot_id_argument, selection_options, with_session
from botctl.parallel import Result
from botctl.rendering.json_documents import backup_document, write_document
from botctl.rendering.tables import backups_table, print_table
from botctl.rendering.words import now, progress_text, restore_word, size_text
from botctl.resuming import joined
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
        events: Iterator[pb.CreateBackupResponse] = joined(
            lambda: session.maintainer.CreateBackup(request), session.notice
        )
        for event in events:
            if event.HasField("backup"):
                made = event.backup
            else:
                progress.report(bot.bot_id, _progress_text(event.progress))
        removed: list[str] = []
        problem = None
        try:
            for backup_id in [] if keep is None else _old(session, bot.bot_id, made, keep):
                session.maintainer.DeleteBackup(pb.DeleteBackupRequest(backup_id=backup_id))
                removed.append(backup_id)
        except grpc.RpcError as exc:
            why = session.explain(exc)
            # Not the code of the cause, which may mean "try again": that makes another backup.
            message = f"backed up, but old backups are left: {why.message}"
            problem = replace(why, exit_code=ExitCode.FAILED, message=message)
        remark = f"{made.backup_id}  {size_text(made.size_bytes)}"
        if removed:
            remark += f", {len(removed)} old removed"
        details = {**backup_document(made), "removed": removed}
        return Result(bot.bot_id, "backed up", problem, remark, details)

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
        events: Iterator[pb.RestoreBackupResponse] = joined(
            lambda: session.maintainer.RestoreBackup(request), session.notice
        )
        for event in events:
            text = _progress_text(event.progress) if event.HasField("progress") else event.message
            progress.report(bot.bot_id, f"{restore_word(event.phase)}: {text}")
        return Result(bot.bot_id, "restored", details={"backup_id": backup_id})

    report(session, [Selected(whole_id, None)], work, doing="restoring", parallel=1, progress=progress)


def _old(session: Session, bot_id: str, made: pb.Backup, keep: int) -> list[str]:
    """The bot's backups to remove, so that ``keep`` are left. The one just made counts as the newest."""
    backups = session.maintainer.ListBackups(pb.ListBackupsRequest(bot_id=bot_id)).backups
    others = [each for each in backups if each.backup_id != made.backup_id]
    later = sum(each.create_time.ToNanoseconds() > made.create_time.ToNanoseconds() for each in others)
    if later:
        session.notice(
            f"{bot_id}: {later} of its backups have later times than the new one, so --keep may remove the wrong "
            "ones: the server's clock was set back, or they come from a machine whose clock is ahead"
        )
    return [each.backup_id for each in others[keep - 1 :]]


def _progress_text(progress: pb.BackupProgress) -> str:
    if not progress.total_bytes:
        return progress.message
    return f"{progress.message}, {progress_text(progress.done_bytes, progress.total_bytes)}"
