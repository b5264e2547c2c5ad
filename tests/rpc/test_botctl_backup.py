"""``botctl backup`` on a real server with bots in memory."""

from __future__ import annotations

import os
from itertools import accumulate
from pathlib import Path

import pytest

from botctl.exit_codes import ExitCode
from container_manager.errors import ImageNotFoundError
from tests.support.botctl_process import piped
from tests.support.calls import Calls
from tests.support.memory_backend import MemoryBackend, MemoryBots
from tests.unit.botctl_runs import complaint, document, run


def test_backups_are_made_listed_restored_and_removed(target: str, bots: MemoryBots, calls: Calls, roots: Path) -> None:
    bot_id, other = bots.new(), bots.new()
    calls.run(bot_id, image="bot:1")
    state = roots / "states" / bot_id
    state.mkdir()
    (state / "file").write_text("old")

    made = run("backup", "create", bot_id[:8], "-o", "json", BOTCTL_TARGET=target)
    (result,) = document(made)
    backup_id = result["backup_id"]
    assert (bot_id, "backed up", "bot:1", []) == tuple(result[key] for key in ("bot_id", "result", "image", "removed"))
    listed = run("backup", "list", BOTCTL_TARGET=target).stdout.splitlines()
    assert ["BACKUP", "SIZE", "MADE", "IMAGE"] == listed[0].split()
    assert backup_id in listed[1]
    assert listed[1].endswith("bot:1")
    assert [backup_id] == [
        each["backup_id"] for each in document(run("backup", "list", bot_id, "-o", "json", BOTCTL_TARGET=target))
    ]

    (state / "file").write_text("new")
    for restored in (bot_id, other):
        given = run("backup", "restore", restored, backup_id, BOTCTL_TARGET=target)
        assert (0, f"{restored}  restored\n") == (given.exit_code, given.stdout), given.stderr
        assert "old" == (roots / "states" / restored / "file").read_text()

    removed = run("backup", "rm", backup_id, BOTCTL_TARGET=target)
    assert (0, f"{backup_id}  removed\n") == (removed.exit_code, removed.stdout)
    assert [] == os.listdir(roots / "backups")  # noqa: PTH208 - names only
    missing = run("backup", "restore", bot_id, backup_id, BOTCTL_TARGET=target)
    assert ExitCode.DONE != missing.exit_code
    assert "there is no backup" in missing.stderr


def test_only_the_newest_are_kept(target: str, bots: MemoryBots, calls: Calls) -> None:
    bot_id, other = bots.new(), bots.new()
    for each in (bot_id, other):
        calls.create(each, image="bot:1")
    made = [
        document(run("backup", "create", "--all", "--keep", "2", "-o", "json", BOTCTL_TARGET=target)) for _ in range(3)
    ]
    assert [0, 0, 1] == [len(results[0]["removed"]) for results in made]
    kept = document(run("backup", "list", bot_id, "-o", "json", BOTCTL_TARGET=target))
    newest = [next(each["backup_id"] for each in results if each["bot_id"] == bot_id) for results in made[:0:-1]]
    assert newest == [each["backup_id"] for each in kept]
    assert 4 == len(document(run("backup", "list", "-o", "json", BOTCTL_TARGET=target)))


def test_a_service_that_is_not_there_is_one_line(tmp_path: Path, bots: MemoryBots) -> None:
    target = f"unix://{tmp_path}/none.sock"
    for arguments in (("list",), ("restore", bots.new(), "b"), ("create", bots.new()), ("rm", "b")):
        assert complaint(run("backup", *arguments, BOTCTL_TARGET=target), ExitCode.NO_SERVICE)


def test_a_fleet_is_upgraded_one_after_another_until_one_fails(
    target: str, bots: MemoryBots, calls: Calls, memory: MemoryBackend
) -> None:
    for _ in range(3):
        calls.create(bots.new(), image="bot:1")
    first = run("upgrade", bots.ids[0][:8], "--image", "bot:2", BOTCTL_TARGET=target)
    assert (0, f"{bots.ids[0]}  upgraded to bot:2\n") == (first.exit_code, first.stdout), first.stderr
    memory.script("prepare_image", None, ImageNotFoundError("no such image"), None)
    rest = run("upgrade", "--all", "--image", "bot:3", "--fail-fast", "-o", "json", BOTCTL_TARGET=target)
    assert ExitCode.DONE != rest.exit_code
    outcomes = [(each["result"], (each["error"] or {}).get("message", "")) for each in document(rest)]
    assert [("upgraded", ""), ("failed", "no such image")] == outcomes[:2]
    assert outcomes[2][1].startswith("not begun")
    assert ["bot:2", "bot:3", "bot:1"] == [(calls.status(bot_id) or pytest.fail("gone")).image for bot_id in bots.ids]


def test_as_many_upgrades_as_asked_for_are_under_way_at_once(
    target: str, bots: MemoryBots, calls: Calls, memory: MemoryBackend
) -> None:
    for _ in range(4):
        calls.create(bots.new(), image="bot:1")
    memory.calls.clear()
    with (
        memory.held("prepare_image") as gate,
        piped(target, "upgrade", "--all", "--image", "bot:2", "--max-parallel", "2") as process,
    ):
        memory.await_calls("prepare_image", 2)
        gate.open()
        assert 0 == process.wait(60)
    # Each begins with its image, and ends soon after its container is made.
    under_way = accumulate({"prepare_image": 1, "create_container": -1}.get(method, 0) for method, _ in memory.calls)
    assert 2 == max(under_way)
