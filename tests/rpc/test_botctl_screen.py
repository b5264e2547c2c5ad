"""``botctl stats`` on a real terminal, with 500 bots: what is on its screen."""

from __future__ import annotations

import re

import pytest

from botmaker.container.v1 import container_observer_pb2 as pb
from tests.support.botctl_process import command, environment
from tests.support.scripted_service import HANG, ScriptedService
from tests.support.tmux import Screen, on_screen
from tests.support.waiting import wait_until

BOTS = 500
ROWS = 30


def samples(round_: int) -> list[pb.WatchStatsResponse]:
    """One of each bot; in each round another bot is the busiest."""
    made = []
    for number in range(BOTS):
        sample = pb.WatchStatsResponse(
            bot_id=f"{number:08x}-0000-4000-8000-000000000000",
            container_id=f"{number:064x}",
            cpu_percent=(number * 7 + round_ * 100) % BOTS / 5,
            memory_usage_bytes=number << 20,
            memory_limit_bytes=1 << 30,
            pids=number,
        )
        sample.time.GetCurrentTime()
        made.append(sample)
    return made


def table(screen: Screen) -> list[str]:
    """The rows of the table, once all bots are there."""
    return wait_until(lambda: lines if f"{BOTS} running" in (lines := screen.lines() or [""])[-1] else [], "500 bots")


def bars(row: str) -> list[int]:
    """How many bars there are, where the row has any."""
    return [len(each) for each in re.findall("[▁▂▃▄▅▆▇█]+", row)]


@pytest.mark.parametrize("columns", [60, 200])
def test_500_bots_fit_the_screen_the_busiest_first(columns: int) -> None:
    with ScriptedService() as scripted:
        scripted.samples = [[*samples(0), *samples(1), HANG]]
        busiest = max(samples(1), key=lambda each: each.cpu_percent)
        with on_screen(command("stats"), environment(scripted.target), columns, ROWS) as screen:
            wait_until(lambda: any(busiest.bot_id[:8] in line for line in screen.lines()[1:2]), "the second round")
            wait_until(lambda: all(bars(line) in ([], [2]) for line in screen.lines()), "all of the second round")
            header, *rows, last = table(screen)
    titles = ["BOT", "CPU", "MEMORY", "PIDS"]
    if columns == 200:
        titles = ["BOT", "CPU", "MEMORY", "OF", "NET", "IN", "NET", "OUT", "PIDS", "CPU,", "LATEST", "LAST"]
    assert titles == header.split()
    # The header, the line below, and a line for the cursor take the rest of the screen.
    shown = [row for row in rows if row]
    assert ROWS - 4 == len(shown)
    cpu = [float(re.findall(r"([0-9.]+)%", row)[0]) for row in shown]
    assert sorted(cpu, reverse=True) == cpu
    assert f"{busiest.cpu_percent:.1f}" == f"{cpu[0]:.1f}"
    assert "…" not in "".join(shown)
    assert f"{BOTS} running, {BOTS - len(shown)} not shown; Ctrl-C ends this" == last
    assert ([[]] if columns == 60 else [[2]]) * len(shown) == [bars(row) for row in shown]
