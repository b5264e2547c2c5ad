"""Upgrades on a real engine: images that migrate the state, crash, or never get ready; and a service that is killed."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from botmaker.container.v1 import container_maintainer_pb2 as pb
from botmaker.container.v1 import container_manager_pb2 as manager_pb
from container_manager_client import error_info
from tests.engine.conftest import BuildImage
from tests.support.bots import Bots
from tests.support.maintained_service import MaintainedService
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the bots of this module are root's")

STATE = "/home/node/.openclaw"
# As the real program: each version reads the state of older ones, migrates it, and refuses that of newer ones.
OLD = f"""HEALTHCHECK --interval=1s CMD test -e /tmp/up
CMD ["sh", "-c", "grep -q 2 {STATE}/version && exit 78; echo 1 >{STATE}/version; touch /tmp/up; exec sleep 100000"]"""
NEW = f"""HEALTHCHECK --interval=1s CMD test -e /tmp/up
CMD ["sh", "-c", "echo 2 >{STATE}/version; echo migrated >{STATE}/data; touch /tmp/up; exec sleep 100000"]"""
CRASHING = f"""CMD ["sh", "-c", "echo 2 >{STATE}/version; rm {STATE}/data; echo cannot open the database; exit 3"]"""
NEVER_READY = f"""HEALTHCHECK --interval=1s --retries=2 CMD false
CMD ["sh", "-c", "echo 2 >{STATE}/version; echo broken >{STATE}/data; exec sleep 100000"]"""


def outcome(service: MaintainedService, bot_id: str, image: str, request_id: str) -> str:
    """How an upgrade ends: its last phase, or its error with its message."""
    try:
        *_, last = service.upgrade(bot_id, image, request_id)
    except grpc.RpcError as exc:
        info = error_info(exc)
        return f"{info.reason}: {info.message}"
    return pb.UpgradePhase.Name(last.phase)


def test_a_fleet_is_upgraded_and_what_does_not_get_ready_is_as_it_was_also_when_the_service_is_killed(
    maintained: MaintainedService, bots: Bots, maintained_roots: Path, build_image: BuildImage
) -> None:
    old, *images = [build_image(lines) for lines in (OLD, NEW, CRASHING, NEVER_READY)]
    fleet = {image: bots.new() for image in images}
    states = {image: maintained_roots / "states" / bot_id for image, bot_id in fleet.items()}
    for image, bot_id in fleet.items():
        maintained.calls.run(bot_id, image=old)
        wait_until((states[image] / "version").exists, "the bot runs")
        (states[image] / "data").write_text("old")
    before = {image: maintained.calls.status(bot_id) for image, bot_id in fleet.items()}
    new, crashing, never_ready = images

    # One is killed while the new version runs on the state that it has migrated.
    with suppress(grpc.RpcError):
        for message in maintained.upgrade(fleet[crashing], crashing, "r"):
            if message.phase == pb.UPGRADE_PHASE_WAITING_READY:
                break
    maintained.kill()
    # What new containers have is no matter for those that are upgraded.
    maintained.start("--state-mount", "/elsewhere")
    request_ids = {new: "n", crashing: "r", never_ready: "o"}

    def ended(image: str) -> str:
        return outcome(maintained, fleet[image], image, request_ids[image])

    with ThreadPoolExecutor(3) as executor:
        ends = dict(zip(images, executor.map(ended, images), strict=True))
    assert "UPGRADE_PHASE_COMMITTED" == ends[new]
    assert "migrated\n" == (states[new] / "data").read_text()
    for image, why in ((crashing, "cannot open the database"), (never_ready, "health check")):
        assert ends[image].startswith("UPGRADE_ROLLED_BACK"), ends[image]
        assert why in ends[image]
        assert ("1\n", "old") == tuple((states[image] / name).read_text() for name in ("version", "data"))
        status, former = maintained.calls.status(fleet[image]), before[image]
        assert status is not None
        assert former is not None
        assert (manager_pb.CONTAINER_STATE_RUNNING, manager_pb.HEALTH_STATUS_HEALTHY) == (status.state, status.health)
        assert (old, former.image_id) == (status.image, status.image_id)
        failed = maintained_roots / "states" / ".maintenance" / fleet[image] / "failed"
        assert "2\n" == (failed / "version").read_text()
    assert 3 <= len(maintained.maintainer.ListBackups(pb.ListBackupsRequest()).backups)
    for bot_id in fleet.values():
        maintained.calls.remove(bot_id, grace=0)
