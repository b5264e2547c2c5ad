"""Conformance 1 to 4: the life of a container, on a real engine."""

from __future__ import annotations

import time

import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from tests.support.bots import Bots
from tests.support.calls import FOREVER, STUBBORN, Calls, fails_with
from tests.support.lifecycle_contract import LifecycleContract
from tests.support.waiting import wait_until


class TestContract(LifecycleContract):
    """What every backend does, on a Docker Engine."""


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


def test_conformance_03_remove_forces_a_running_container_after_its_grace(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    calls.run(bot_id, *STUBBORN)
    bots.wait_for_log(bot_id, b"ready")
    begun = time.monotonic()
    calls.remove(bot_id, grace=2)
    assert time.monotonic() - begun >= 2
    assert bots.containers() == []


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


def _state(calls: Calls, bot_id: str) -> int | None:
    status = calls.status(bot_id)
    return None if status is None else status.state
