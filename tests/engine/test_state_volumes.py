# ruff: noqa: PLR0917 - fixtures
"""A volume with a bot's state on a real engine: what is written into it is read from it, and nothing is left beside."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import docker
import pytest
from docker.errors import ImageNotFound

from container_manager.backends.bot_container import LABEL_BOT_ID
from container_manager.backends.swarm import state_volumes
from container_manager.backends.swarm.state_volumes import IMAGE, LABEL_STATE_OF, StateVolume
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.engine.volumes import VolumeClient
from container_manager.errors import InvalidStateError
from container_manager.provisioning import tree_stream
from tests.unit.test_tree_copy import made_state, picture
from tests.unit.test_tree_stream import in_whole_seconds

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="files of several users need root")


@pytest.fixture
def client(engine_url: str) -> Iterator[VolumeClient]:
    client = VolumeClient(engine_url, timeout_seconds=60)
    yield client
    client.close()


@pytest.fixture
def bot_id(engine: docker.DockerClient) -> Iterator[str]:
    bot_id = str(uuid.uuid4())
    yield bot_id
    for container in engine.containers.list(all=True, filters={"volume": f"botmaker-{bot_id}"}):
        container.remove(force=True)
    for volume in engine.volumes.list(filters={"name": f"botmaker-{bot_id}"}):
        volume.remove()


@pytest.fixture
def volume(client: VolumeClient, bot_id: str) -> StateVolume:
    return StateVolume(client, bot_id)


def written(volume: StateVolume, source: Path) -> None:
    """Write a directory into the volume."""
    descriptor = os.open(source, os.O_RDONLY)
    try:
        volume.write(descriptor)
    finally:
        os.close(descriptor)


def read(volume: StateVolume, target: Path) -> list[str]:
    """Read the volume into a new directory; what is left out."""
    target.mkdir()
    descriptor = os.open(target, os.O_RDONLY)
    try:
        return volume.read(descriptor, without=(), on_progress=lambda _: None).left_out
    finally:
        os.close(descriptor)


def containers(engine: docker.DockerClient, bot_id: str) -> list[str]:
    """The names of the containers that have the volume."""
    return [each.name for each in engine.containers.list(all=True, filters={"volume": f"botmaker-{bot_id}"})]


def test_what_is_written_into_a_volume_is_in_it_for_bots_and_is_read_from_it(
    engine: docker.DockerClient, test_image: str, volume: StateVolume, bot_id: str, tmp_path: Path
) -> None:
    source = made_state(tmp_path / "source")
    # An engine refuses links that lead out of the place where an archive is unpacked.
    for name, target in (("out", "../../../../etc/shadow"), ("up", ".."), ("self", "self"), ("x" * 200, "y" * 200)):
        (source / "a" / name).symlink_to(target)
    os.chown(source / "a" / "up", 7, 8, follow_symlinks=False)
    (source / "no rights").mkdir(mode=0)
    (source / os.fsdecode(b"\xff")).write_text("no UTF-8")
    (source / ("ü" * 100)).touch()
    (source / "tmp").mkdir()
    (source / "tmp").chmod(0o1777)
    source.joinpath(*(f"d{number:02}" for number in range(tree_stream.MAX_DEPTH))).mkdir(parents=True)
    (source / "empty").mkdir()
    os.link(source / "a" / "b" / "file", source / "another name")
    in_whole_seconds(source)
    os.chown(source, 1234, 70000)
    source.chmod(0o750)
    assert not volume.exists()
    written(volume, source)
    assert volume.exists()
    (found,) = engine.volumes.list(filters={"label": f"{LABEL_BOT_ID}={bot_id}"})
    assert {"botmaker.managed": "true", LABEL_BOT_ID: bot_id} == found.attrs["Labels"]
    mount = docker.types.Mount("/s", found.name)
    shown = engine.containers.run(
        test_image, ["stat", "-c", "%u:%g %a", "/s", "/s/a/empty"], mounts=[mount], remove=True
    )
    assert b"1234:70000 750\n1000:1001 640\n" == shown
    left_out = read(volume, tmp_path / "copy")
    assert [] == left_out
    assert picture(source) == picture(tmp_path / "copy")
    assert [] == containers(engine, bot_id)


def test_pipes_are_left_out_and_what_a_killed_service_has_left_is_removed(
    engine: docker.DockerClient, test_image: str, volume: StateVolume, bot_id: str, tmp_path: Path
) -> None:
    (tmp_path / "source").mkdir()
    written(volume, tmp_path / "source")
    mount = docker.types.Mount("/s", f"botmaker-{bot_id}")
    engine.containers.run(test_image, ["mkfifo", "/s/pipe"], mounts=[mount], remove=True)
    name = f"botmaker-{bot_id}-state"
    engine.containers.create(test_image, ["true"], name=name, mounts=[mount], labels={LABEL_STATE_OF: bot_id})
    with suppress(ImageNotFound):
        engine.images.remove(":".join(IMAGE))
    assert ["pipe"] == read(volume, tmp_path / "copy")
    engine.containers.create(test_image, ["true"], name=name, mounts=[mount], labels={LABEL_STATE_OF: bot_id})
    engine.containers.run(test_image, ["true"], mounts=[mount], labels={LABEL_BOT_ID: bot_id})
    volume.remove()
    assert (False, []) == (volume.exists(), containers(engine, bot_id))
    volume.remove()


def test_a_volume_that_another_container_has_or_that_is_in_use_stays(
    engine: docker.DockerClient,
    test_image: str,
    volume: StateVolume,
    bot_id: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(state_volumes, "_IN_USE_SECONDS", 0.5)
    (tmp_path / "source").mkdir()
    written(volume, tmp_path / "source")
    mount = docker.types.Mount("/s", f"botmaker-{bot_id}")
    foreign = engine.containers.create(test_image, ["true"], mounts=[mount])
    labels = {LABEL_BOT_ID: bot_id}
    running = engine.containers.run(test_image, ["sleep", "1000"], mounts=[mount], labels=labels, detach=True)
    for container in (foreign, running):
        for call in (volume.release, volume.remove):
            with pytest.raises(InvalidStateError, match="still has"):
                call()
        container.reload()
        container.remove(force=True)
    volume.remove()
    assert not volume.exists()


def test_a_disk_of_the_node_that_is_full_and_a_stream_that_the_engine_refuses_are_told(
    engine: docker.DockerClient, client: VolumeClient, volume: StateVolume, bot_id: str, tmp_path: Path
) -> None:
    """Amid a stream that is larger than what either side holds."""
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=2m"}
    engine.volumes.create(f"botmaker-{bot_id}", driver="local", driver_opts=options)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "large").write_bytes(os.urandom(30 << 20))
    with pytest.raises(EngineRejectedError, match="no space left"):
        written(volume, tmp_path / "source")
    with pytest.raises(EngineRejectedError, match="header"), volume._mounted() as container_id:
        client.put_archive(container_id, "/", (os.urandom(1 << 20) for _ in range(30)))
    assert [] == containers(engine, bot_id)
    with pytest.raises(EngineRejectedError, match="reference"):
        client.import_empty_image("No Repository", "1")
