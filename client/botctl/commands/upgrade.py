"""``botctl upgrade``."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import click
import grpc
from google.protobuf.duration_pb2 import Duration
from rich.console import RenderableType

from botctl.commands.reporting import Progress, report
from botctl.exit_codes import ExitCode
from botctl.options import bot_id_arguments, grace_option, state_option, with_session
from botctl.parallel import Result
from botctl.param_types import DURATION
from botctl.problems import Problem
from botctl.rendering.tables import upgrades_table
from botctl.rendering.words import progress_text, upgrade_word
from botctl.resuming import joined
from botctl.selection import Selected, select
from botctl.session import Session
from botmaker.container.v1 import container_maintainer_pb2 as pb

_WAITS = "waits"


@click.command()
@click.option("--image", required=True, metavar="IMAGE", help="The new image.")
@click.option("--all", "all_bots", is_flag=True, help="Every bot that has a container.")
@state_option("With --all: only bots in this state. Repeatable.")
@click.option(
    "--max-parallel",
    type=click.IntRange(1, 64),
    metavar="N",
    default=1,
    show_default=True,
    help="How many bots to upgrade at the same time.",
)
@click.option("--fail-fast", is_flag=True, help="Begin no further upgrade after one has failed.")
@click.option("--ready-timeout", type=DURATION, metavar="DURATION", help="Time to become ready.  [default: 120s]")
@click.option("--skip-backup", is_flag=True, help="Without a copy of the state: it is not put back after a failure.")
@grace_option
@bot_id_arguments
@with_session
def upgrade(
    session: Session,
    *,
    image: str,
    max_parallel: int,
    fail_fast: bool,
    ready_timeout: Duration | None,
    skip_backup: bool,
    grace: Duration | None,
    **selection: Any,
) -> None:
    """Replace bots' containers by ones of another image, with the same configuration and state.

    A bot that does not become ready gets its old image and its former state back. A stopped bot stays stopped. One bot
    after another is upgraded, unless --max-parallel says more.
    """
    bots = select(session, **selection)
    rollout = Rollout(bots)

    def work(bot: Selected) -> Result:
        if fail_fast and rollout.has_failed.is_set():
            return Result(bot.bot_id, problem=Problem(ExitCode.FAILED, "not begun: another upgrade has failed"))
        request = pb.UpgradeContainerRequest(
            bot_id=bot.bot_id,
            image=image,
            request_id=str(uuid.uuid4()),
            ready_timeout=ready_timeout,
            grace_period=grace,
            skip_backup=skip_backup,
        )
        last = pb.UpgradeContainerResponse()
        try:
            # The same request id joins the upgrade that goes on while the service is away.
            messages: Iterator[pb.UpgradeContainerResponse] = joined(
                lambda: session.maintainer.UpgradeContainer(request), session.notice
            )
            for message in messages:
                last = message
                rollout.report(bot.bot_id, message)
        except grpc.RpcError as exc:
            rollout.has_failed.set()
            rollout.rows[bot.bot_id] = ("failed", "")
            return Result(bot.bot_id, problem=session.explain(exc), details={"image": image})
        details = {"image": image, "backup_id": last.backup_id or None}
        return Result(bot.bot_id, "upgraded", remark=f"to {image}", details=details)

    report(
        session,
        bots,
        work,
        doing="upgrading",
        parallel=max_parallel,
        progress=rollout.progress,
        table=rollout.render if len(bots) > 1 else None,
    )


class Rollout:
    """Where the upgrade of each bot is."""

    def __init__(self, bots: Sequence[Selected]) -> None:
        self.has_failed = threading.Event()
        self.progress = Progress()
        self.rows = {bot.bot_id: (_WAITS, "") for bot in bots}
        """The phase of each bot, and what is being done."""

    def report(self, bot_id: str, message: pb.UpgradeContainerResponse) -> None:
        """Take over a message of the service, in any thread."""
        text = message.message
        if message.HasField("pull_progress"):
            text += f", {progress_text(message.pull_progress.downloaded_bytes, message.pull_progress.total_bytes)}"
        self.rows[bot_id] = (upgrade_word(message.phase), text)
        self.progress.report(bot_id, f"{upgrade_word(message.phase)}: {text}")

    def render(self, rows: int) -> tuple[RenderableType, str]:
        """The table, those under way first, and the line below it."""
        ordered = sorted(self.rows.items(), key=lambda row: row[1][0] in (_WAITS, "committed", "failed"))
        phases = [phase for phase, _ in self.rows.values()]
        line = f"{phases.count('committed')} of {len(phases)} upgraded, {phases.count('failed')} failed"
        return upgrades_table((bot_id, *row) for bot_id, row in ordered[:rows]), line
