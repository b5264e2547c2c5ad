"""Conformance 1 to 4: the life of a container, on a real engine."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from tests.support.bots import Bots
from tests.support.calls import FOREVER, STUBBORN, Calls, fails_with
from tests.support.waiting import wait_until


def test_conformance_01_status_list_and_the_engine_agree_on_a_created_container(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    container_id = calls.create(bot_id, *FOREVER)
    status = calls.status(bot_id)
    inspected = bots.inspect(bot_id)
    assert status is not None
    assert [status] == calls.listed([bot_id])
    assert status.container_id == container_id == inspected["Id"]
    assert status.bot_id == bot_id == inspected["Config"]["Labels"]["botmaker.bot-id"]
    assert status.name == f"botmaker-{bot_id}" == inspected["Name"].removeprefix("/")
    assert status.image == inspected["Config"]["Image"]
    assert status.image_id == inspected["Image"]
    assert status.state == pb.CONTAINER_STATE_CREATED
    assert status.HasField("create_time")


def test_conformance_02_start_runs_stop_exits_and_remove_leaves_nothing(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    calls.run(bot_id, *FOREVER)
    running = calls.status(bot_id)
    assert running is not None
    assert running.state == pb.CONTAINER_STATE_RUNNING
    assert running.HasField("start_time")
    assert not running.HasField("finish_time")
    assert not running.HasField("exit_code")
    calls.stop(bot_id, grace=5)
    stopped = calls.status(bot_id)
    assert stopped is not None
    assert stopped.state == pb.CONTAINER_STATE_EXITED
    assert stopped.finish_time.ToNanoseconds() > running.start_time.ToNanoseconds()
    calls.remove(bot_id)
    assert calls.status(bot_id) is None
    assert calls.listed([bot_id]) == []
    assert bots.containers() == []


def test_conformance_03_remove_forces_a_running_container_after_its_grace(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    calls.run(bot_id, *STUBBORN)
    bots.wait_for_log(bot_id, b"ready")
    begun = time.monotonic()
    calls.remove(bot_id, grace=2)
    assert time.monotonic() - begun >= 2
    assert bots.containers() == []


def test_conformance_03_remove_of_a_stopped_a_removed_and_a_missing_container_is_ok(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    calls.run(bot_id, *FOREVER)
    calls.stop(bot_id, grace=0)
    calls.remove(bot_id)
    calls.remove(bot_id)
    calls.remove(bots.new())
    assert bots.containers() == []


def test_conformance_03_ten_removes_at_once_all_succeed(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    calls.run(bot_id, *FOREVER)
    with ThreadPoolExecutor(10) as pool:
        assert [None] * 10 == list(pool.map(lambda _: calls.remove(bot_id, grace=0), range(10)))
    assert bots.containers() == []


def test_conformance_04_stop_of_a_missing_and_of_a_stopped_container_is_ok(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    calls.stop(bot_id)
    calls.run(bot_id, *FOREVER)
    calls.stop(bot_id, grace=0)
    calls.stop(bot_id, grace=0)
    status = calls.status(bot_id)
    assert status is not None
    assert status.state == pb.CONTAINER_STATE_EXITED


def test_conformance_04_start_of_a_running_container_leaves_its_process_as_it_is(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    calls.run(bot_id, *FOREVER)
    before = calls.status(bot_id)
    calls.start(bot_id)
    assert before == calls.status(bot_id)


def test_start_and_restart_of_a_missing_container_say_not_found(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    with fails_with("NOT_FOUND", "CONTAINER_NOT_FOUND") as caught:
        calls.start(bot_id)
    assert caught[0].metadata["bot_id"] == bot_id
    with fails_with("NOT_FOUND", "CONTAINER_NOT_FOUND"):
        calls.restart(bot_id)


def test_restart_gives_a_new_process_in_the_same_container(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    calls.run(bot_id, *FOREVER)
    before = calls.status(bot_id)
    calls.restart(bot_id, grace=0)
    after = calls.status(bot_id)
    assert before is not None
    assert after is not None
    assert before.container_id == after.container_id
    assert before.start_time.ToNanoseconds() < after.start_time.ToNanoseconds()
    assert after.state == pb.CONTAINER_STATE_RUNNING


def test_restart_of_a_stopped_container_starts_it(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    calls.create(bot_id, *FOREVER)
    calls.restart(bot_id)
    status = calls.status(bot_id)
    assert status is not None
    assert status.state == pb.CONTAINER_STATE_RUNNING


def test_a_paused_container_is_shown_refuses_start_and_can_be_stopped_and_removed(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    calls.run(bot_id, *FOREVER)
    bots.engine.api.pause(f"botmaker-{bot_id}")
    wait_until(lambda: _state(calls, bot_id) == pb.CONTAINER_STATE_PAUSED, "paused")
    with fails_with("FAILED_PRECONDITION", "INVALID_STATE"):
        calls.start(bot_id)
    calls.stop(bot_id, grace=1)
    stopped = calls.status(bot_id)
    assert stopped is not None
    assert stopped.state == pb.CONTAINER_STATE_EXITED
    calls.start(bot_id)
    bots.engine.api.pause(f"botmaker-{bot_id}")
    calls.remove(bot_id, grace=1)
    assert bots.containers() == []


@pytest.mark.parametrize("how", ["exited", "created", "restarting"])
def test_remove_works_from_every_state(calls: Calls, bots: Bots, how: str) -> None:
    bot_id = bots.new()
    calls.create(bot_id, *(("false",) if how == "restarting" else FOREVER))
    if how != "created":
        calls.start(bot_id)
    if how == "exited":
        calls.stop(bot_id, grace=0)
    wait_until(lambda: bots.inspect(bot_id)["State"]["Status"] == how, how)
    calls.remove(bot_id, grace=0)
    assert bots.containers() == []


def test_remove_takes_anonymous_volumes_along_and_keeps_secrets(calls: Calls, bots: Bots, volume_image: str) -> None:
    bot_id = bots.new()
    calls.create(bot_id, *FOREVER, image=volume_image)
    volume = next(mount["Name"] for mount in bots.inspect(bot_id)["Mounts"] if mount["Type"] == "volume")
    calls.remove(bot_id)
    assert volume not in [each.name for each in bots.engine.volumes.list()]
    assert (bots.secrets_root / bot_id / "GATEWAY_TOKEN").exists()


def test_the_list_is_narrowed_by_state_and_ordered_by_create_time(calls: Calls, bots: Bots) -> None:
    first, second, third = bots.new(), bots.new(), bots.new()
    for bot_id in (first, second, third):
        calls.create(bot_id, *FOREVER)
    calls.start(second)
    assert [first, second, third] == [status.bot_id for status in calls.listed(bots.ids)]
    running = [status.bot_id for status in calls.list(pb.CONTAINER_STATE_RUNNING)]
    assert second in running
    assert first not in running
    both = [status.bot_id for status in calls.list(pb.CONTAINER_STATE_RUNNING, pb.CONTAINER_STATE_CREATED)]
    assert {first, second, third} <= set(both)


def _state(calls: Calls, bot_id: str) -> int | None:
    status = calls.status(bot_id)
    return None if status is None else status.state
