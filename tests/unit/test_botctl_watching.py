"""``botctl watch`` and ``stats``: each change once, also when the stream is opened again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from botctl.commands.stats import Samples
from botctl.exit_codes import ExitCode
from botctl.watch_state import WatchState
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from container_manager.errors import CapacityExceededError
from tests.support.scripted_service import AWAY, ScriptedService, changed, removed, snapshot, synced
from tests.unit.botctl_runs import Run, complaint, documents

BOT = "0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11"
OTHER = "d2000000-6f0a-4c55-9c3e-2f1d9a7e8b11"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botctl.resuming._FIRST_PAUSE_SECONDS", 0)


def status(bot_id: str = BOT, state: pb.ContainerState = pb.CONTAINER_STATE_RUNNING, **fields: Any) -> Any:
    return pb.ContainerStatus(bot_id=bot_id, container_id=f"of {bot_id}", state=state, **fields)


EXITED = status(state=pb.CONTAINER_STATE_EXITED, exit_code=3, exit_reason=pb.EXIT_REASON_ERROR)


def told(result: Any) -> list[tuple[str, str | None]]:
    return [
        (line["event"], (line["container"] or {}).get("bot_id", "")[:2] if line["container"] else None)
        for line in documents(result)
    ]


def test_json_lines_are_the_streams_events_with_whole_containers(botctl_run: Run, scripted: ScriptedService) -> None:
    scripted.watches = [[snapshot(status()), synced(), changed(EXITED, 2), removed(EXITED, 3)]]
    lines = documents(botctl_run("watch", "-o", "json"))
    assert ["snapshot", "synced", "changed", "removed"] == [line["event"] for line in lines]
    assert [1, 1, 2, 3] == [line["version"] for line in lines]
    assert [("running", None), None, ("exited", 3), ("exited", 3)] == [
        (line["container"]["state"], line["container"]["exit_code"]) if line["container"] else None for line in lines
    ]


def test_after_a_break_only_differences_are_shown(botctl_run: Run, scripted: ScriptedService) -> None:
    third = status("ee000000-6f0a-4c55-9c3e-2f1d9a7e8b11")
    scripted.watches = [
        [snapshot(status()), snapshot(status(OTHER)), synced(), AWAY],
        [AWAY],
        # The first has changed, the second is gone, the third is new.
        [snapshot(EXITED), snapshot(third), synced(), removed(third, 2)],
    ]
    result = botctl_run("watch", "-o", "json")
    assert [
        ("snapshot", "0b"),
        ("snapshot", "d2"),
        ("synced", None),
        ("changed", "0b"),
        ("changed", "ee"),
        ("removed", "d2"),
        ("resynced", None),
        ("removed", "ee"),
    ] == told(result)
    assert 1 == result.stderr.count("the service is away")


def test_a_break_amid_the_snapshots_is_no_removal(botctl_run: Run, scripted: ScriptedService) -> None:
    scripted.watches = [
        [snapshot(status()), AWAY],
        [snapshot(status()), snapshot(status(OTHER)), synced(), AWAY],
        [snapshot(status()), AWAY],
        [snapshot(status()), snapshot(status(OTHER)), synced()],
    ]
    events = [event for event, _ in told(botctl_run("watch", "-o", "json"))]
    assert ["snapshot", "snapshot", "snapshot", "synced", "resynced"] == events


def test_a_removed_container_that_was_never_seen_is_shown_by_its_id() -> None:
    watched = WatchState()
    (event,) = watched.apply(removed(status(), 1))
    assert ("removed", BOT) == (event.kind, event.status and event.status.bot_id)
    assert [] == watched.apply(observer_pb.WatchContainersResponse())


def test_into_a_pipe_each_change_is_a_line(botctl_run: Run, scripted: ScriptedService) -> None:
    orphan = pb.ContainerStatus(container_id="c", name="somebodys", state=pb.CONTAINER_STATE_PAUSED)
    scripted.watches = [[snapshot(status()), snapshot(orphan), synced(), changed(EXITED, 2), removed(EXITED, 3)]]
    lines = [line.split("  ", 1)[1] for line in botctl_run("watch").stdout.splitlines()]
    assert [f"{BOT}  running", "(somebodys)  paused", f"{BOT}  exited (3, error)", f"{BOT}  removed"] == lines


def test_beginnings_of_ids_and_ids_without_a_container_can_be_watched(
    botctl_run: Run, scripted: ScriptedService
) -> None:
    scripted.add(BOT)
    scripted.watches, scripted.samples = [[]], [[]]
    assert 0 == botctl_run("watch", "0b", OTHER).exit_code
    assert 0 == botctl_run("stats", "0b", "--interval", "500ms").exit_code
    (request,) = scripted.seen("WatchContainers")
    assert [BOT, OTHER] == request.bot_ids
    (request,) = scripted.seen("WatchStats")
    assert ([BOT], 500_000_000) == (request.bot_ids, request.interval.nanos)


@pytest.mark.parametrize("command", ["watch", "stats"])
def test_an_error_other_than_an_absent_service_ends_it(
    botctl_run: Run, scripted: ScriptedService, command: str
) -> None:
    scripted.watches = scripted.samples = [[CapacityExceededError("too many streams")]]
    assert "too many streams" in complaint(botctl_run(command), ExitCode.NOT_NOW)


def sample(bot_id: str, **fields: Any) -> observer_pb.WatchStatsResponse:
    made = observer_pb.WatchStatsResponse(bot_id=bot_id, container_id=f"of {bot_id}", **fields)
    made.time.seconds = 1
    return made


def test_a_sample_is_a_json_line_or_a_line(botctl_run: Run, scripted: ScriptedService) -> None:
    first = sample(BOT, cpu_percent=12.34, memory_usage_bytes=3 << 20, memory_limit_bytes=1 << 30, pids=2)
    scripted.samples = [[first, AWAY], [sample("", network_rx_bytes=2048)], [first]]
    one, two = documents(botctl_run("stats", "-o", "json"))
    assert {
        "bot_id": BOT,
        "container_id": f"of {BOT}",
        "time": "1970-01-01T00:00:01.000000000Z",
        "cpu_percent": 12.34,
        "memory_usage_bytes": 3 << 20,
        "memory_limit_bytes": 1 << 30,
        "network_rx_bytes": 0,
        "network_tx_bytes": 0,
        "pids": 2,
    } == one
    assert (None, 2048) == (two["bot_id"], two["network_rx_bytes"])
    line = f"1970-01-01T00:00:01Z  {BOT}  cpu 12.3%  memory 3.0 MiB of 1.0 GiB  net 0 B in, 0 B out  pids 2\n"
    assert line == botctl_run("stats").stdout


def present(bot_id: str, **fields: Any) -> observer_pb.ContainerStats:
    return observer_pb.ContainerStats.FromString(sample(bot_id, **fields).SerializeToString())


def test_without_a_stream_the_present_samples_are_one_document_or_one_table(
    botctl_run: Run, scripted: ScriptedService
) -> None:
    scripted.stats.containers.extend([present(OTHER, pids=3), present(BOT, cpu_percent=12.34, memory_usage_bytes=2048)])
    first, second = json.loads(botctl_run("stats", "--no-stream", "-o", "json").stdout)
    assert (BOT, 12.34, "1970-01-01T00:00:01.000000000Z") == (first["bot_id"], first["cpu_percent"], first["time"])
    assert (OTHER, 3) == (second["bot_id"], second["pids"])
    head, *rows = botctl_run("stats", "--no-stream").stdout.splitlines()
    assert ["BOT", "CPU", "MEMORY"] == head.split()[:3]
    assert [[BOT, "12.3%", "2.0"], [OTHER, "0.0%", "0"]] == [row.split()[:3] for row in rows]
    assert [] == scripted.seen("WatchStats")


def test_without_a_stream_only_the_bots_named_are_asked_for(botctl_run: Run, scripted: ScriptedService) -> None:
    scripted.add(BOT)
    result = botctl_run("stats", "--no-stream", "-o", "json", "0b", OTHER)
    assert (0, [[]]) == (result.exit_code, documents(result))
    (request,) = scripted.seen("GetStats")
    assert ([BOT, OTHER], False) == (request.bot_ids, request.HasField("max_age"))


def test_a_bot_that_is_no_longer_sampled_leaves_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    samples = Samples(2)
    samples.add(sample(OTHER))
    now = 105.0
    samples.add(sample(BOT))
    assert [BOT, OTHER] == [each.bot_id for each in samples.current()]
    now = 112.0
    assert [BOT] == [each.bot_id for each in samples.current()]


def test_a_table_is_in_the_order_that_is_asked_for(botctl_run: Run, scripted: ScriptedService) -> None:
    for bot_id, cpu, memory in ((BOT, 1, 5), (OTHER, 2, 4)):
        scripted.stats.containers.add(bot_id=bot_id, container_id=bot_id, cpu_percent=cpu, memory_usage_bytes=memory)

    def order(*arguments: str) -> list[str]:
        return [line.split()[0] for line in botctl_run("stats", "--no-stream", *arguments).stdout.splitlines()[1:]]

    assert [BOT, OTHER] == order() == order("--sort", "memory")
    assert [OTHER, BOT] == order("--sort", "cpu")
