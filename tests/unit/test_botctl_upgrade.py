"""``botctl upgrade`` shows where the upgrade of each bot is."""

from __future__ import annotations

import io

from rich.console import Console

from botctl.commands.upgrade import Rollout
from botctl.selection import Selected
from botmaker.container.v1 import container_maintainer_pb2 as pb

ONE, TWO = "11111111-0000-4000-8000-000000000000", "22222222-0000-4000-8000-000000000000"


def shown(rollout: Rollout) -> str:
    """The table and its line, as in a terminal."""
    table, line = rollout.render(10)
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table, line)
    return console.export_text()


def test_the_table_shows_how_far_each_pull_is() -> None:
    rollout = Rollout([Selected(ONE, None), Selected(TWO, None)])
    pulling = pb.UpgradeContainerResponse(phase=pb.UPGRADE_PHASE_PULLING, message="getting the image bot:2")
    rollout.report(ONE, pulling)
    (row,) = (line for line in shown(rollout).splitlines() if ONE in line)
    assert row.rstrip().endswith("getting the image bot:2")
    pulling.pull_progress.downloaded_bytes, pulling.pull_progress.total_bytes = 1 << 20, 3 << 20
    rollout.report(ONE, pulling)
    (row,) = (line for line in shown(rollout).splitlines() if ONE in line)
    assert "getting the image bot:2, 1.0 MiB of 3.0 MiB" in row
    rollout.report(ONE, pb.UpgradeContainerResponse(phase=pb.UPGRADE_PHASE_STOPPING, message="stopping the bot"))
    (row,) = (line for line in shown(rollout).splitlines() if ONE in line)
    assert row.rstrip().endswith("stopping the bot")
    assert "0 of 2 upgraded, 0 failed" in shown(rollout)
