"""Upgrades on a real engine: images that migrate the state, crash, hang, or never get ready, or come from a registry.

And a service that is killed.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import docker
import grpc
import pytest
from docker.errors import ImageNotFound
from google.protobuf.duration_pb2 import Duration

from botmaker.container.v1 import container_maintainer_pb2 as pb
from botmaker.container.v1 import container_manager_pb2 as manager_pb
from container_manager_client import error_info
from tests.support.bots import Bots
from tests.support.maintained_service import MaintainedService
from tests.support.registry import Registry
from tests.support.start_failure_contract import BuildImage
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
# Its check fails as long as the start period lasts, which leaves it `starting`.
HANGING = f"""HEALTHCHECK --interval=1s --start-period=1h CMD false
CMD ["sh", "-c", "trap '' TERM; echo 2 >{STATE}/version; echo broken >{STATE}/data; while :; do sleep 1; done"]"""
# Nothing that compresses, so that the pull takes a while.
LARGE = f"RUN head -c 30000000 /dev/urandom >/large\n{NEW}"


def outcome(service: MaintainedService, bot_id: str, image: str, request_id: str = "", ready_seconds: int = 120) -> str:
    """How an upgrade ends: its last phase, or its error with its message."""
    try:
        ready_timeout = Duration(seconds=ready_seconds)
        *_, last = service.upgrade(bot_id, image, request_id or str(uuid.uuid4()), ready_timeout=ready_timeout)
    except grpc.RpcError as exc:
        info = error_info(exc)
        return f"{info.reason}: {info.message}"
    return pb.UpgradePhase.Name(last.phase)


def healthy(service: MaintainedService, bot_id: str) -> manager_pb.ContainerStatus:
    """The bot's status as soon as it is healthy."""

    def status() -> manager_pb.ContainerStatus | None:
        found = service.calls.status(bot_id)
        return found if found is not None and found.health == manager_pb.HEALTH_STATUS_HEALTHY else None

    return wait_until(status, "the bot is healthy")  # type: ignore[return-value]


@pytest.fixture
def secrets_root(maintained_roots: Path) -> Path:
    """Of its own: a service continues what a killed one has left only if it is alone with its root."""
    path = maintained_roots / "secrets"
    path.mkdir(mode=0o755)
    return path


@pytest.fixture
def bot_id(maintained: MaintainedService, bots: Bots, maintained_roots: Path, build_image: BuildImage) -> Iterator[str]:
    """A healthy bot of the old image."""
    bot_id = bots.new()
    maintained.calls.run(bot_id, image=build_image(OLD))
    healthy(maintained, bot_id)
    (maintained_roots / "states" / bot_id / "data").write_text("old")
    yield bot_id
    maintained.calls.remove(bot_id, grace=0)


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
    # The wait for the crashing one ends with its second exit, or with a later one that is seen first.
    crashed = "times, at last with exit code 3"
    for image, why in ((crashing, crashed), (crashing, "cannot open the database"), (never_ready, "health check")):
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


def test_an_image_that_hangs_is_given_up_when_its_time_is_over(
    maintained: MaintainedService, bot_id: str, maintained_roots: Path, build_image: BuildImage
) -> None:
    before = healthy(maintained, bot_id)
    end = outcome(maintained, bot_id, build_image(HANGING), ready_seconds=5)
    assert end.startswith("UPGRADE_ROLLED_BACK"), end
    assert "it was not ready within 5 s: its health check has not passed yet" in end
    assert before.image_id == healthy(maintained, bot_id).image_id
    state = maintained_roots / "states" / bot_id
    assert ("1\n", "old") == tuple((state / name).read_text() for name in ("version", "data"))


def test_a_rollback_makes_the_container_from_the_former_image_also_if_its_tag_has_moved(
    maintained: MaintainedService, bot_id: str, bots: Bots, build_image: BuildImage
) -> None:
    before, never_ready = healthy(maintained, bot_id), build_image(NEVER_READY)
    repository, _, tag = before.image.partition(":")
    former, moved = (bots.engine.images.get(image) for image in (before.image, never_ready))
    moved.tag(repository, tag)
    try:
        end = outcome(maintained, bot_id, before.image)
        assert end.startswith("UPGRADE_ROLLED_BACK"), end
        assert before.image_id == healthy(maintained, bot_id).image_id
        assert before.image_id != bots.engine.images.get(before.image).id
    finally:
        former.tag(repository, tag)


def test_an_image_is_pulled_for_an_upgrade_and_one_that_cannot_be_had_changes_nothing(  # noqa: PLR0917
    maintained: MaintainedService,
    bot_id: str,
    engine: docker.DockerClient,
    engine_url: str,
    registry: Registry,
    build_image: BuildImage,
) -> None:
    large = build_image(LARGE)
    pulled = registry.push(engine_url, large, "bots/new:1")
    engine.images.remove(large)
    maintained.kill()
    maintained.start("--allowed-image", f"{registry.address}/*")

    before = maintained.calls.status(bot_id)
    assert outcome(maintained, bot_id, f"{registry.address}/bots/absent:1").startswith("IMAGE_NOT_FOUND")
    assert outcome(maintained, bot_id, large).startswith("IMAGE_NOT_ALLOWED")
    assert before == maintained.calls.status(bot_id)

    try:
        messages = list(maintained.upgrade(bot_id, pulled, str(uuid.uuid4())))
        assert pb.UPGRADE_PHASE_COMMITTED == messages[-1].phase
        pulls = [message.pull_progress for message in messages if message.HasField("pull_progress")]
        assert max(each.downloaded_bytes for each in pulls) > 0
        assert pulled == healthy(maintained, bot_id).image
    finally:
        maintained.calls.remove(bot_id, grace=0)
        with suppress(ImageNotFound):
            engine.images.remove(pulled, force=True)
