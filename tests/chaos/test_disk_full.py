"""The file system of the engine's data fills up during a mix of operations, and gets free space again."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from dev.engine import PrivateEngine
from dev.images import ensure_test_image
from tests.chaos.conftest import Report
from tests.support.calls import FOREVER
from tests.support.fault_table import FaultRow
from tests.support.faulty_world import FaultyWorld, faulty_world
from tests.support.recorded_calls import create_request, request_of
from tests.support.scale import sizes

SIZE = "96m"
_BLOCK = bytes(1 << 16)


@pytest.fixture
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small separate file system."""
    path = tmp_path_factory.mktemp("disk")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


@pytest.fixture
def cramped(
    small_disk: Path, short_directory: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FaultyWorld]:
    """The service on an engine with its data on the small file system."""
    with PrivateEngine(tmp_path_factory.mktemp("cramped"), data_root=small_disk / "data") as engine:
        image = ensure_test_image(engine.url)
        with faulty_world(engine, image, short_directory, tmp_path) as world:
            yield world


@sizes("times", short=1, complete=10)
def test_a_full_disk_fails_creates_with_a_reason_and_leaves_nothing_half_made(
    cramped: FaultyWorld, small_disk: Path, report: Report, times: int
) -> None:
    world = cramped
    kept, refused = world.bot_ids[0], world.bot_ids[1:]
    entries: dict[str, str | None] = dict.fromkeys(world.bot_ids)
    with world.channel_stub() as stub:
        created = world.recorder.call(stub, "CreateContainer", create_request(kept, *FOREVER), 20)
        entries[kept] = created.response.container_id
        for _ in range(times):
            with _full(small_disk):
                outcomes = [
                    world.recorder.call(stub, "CreateContainer", create_request(bot_id, *FOREVER), 20)
                    for bot_id in refused
                ]
                assert {("RESOURCE_EXHAUSTED", "CAPACITY_EXCEEDED")} == {(each.code, each.reason) for each in outcomes}
                assert "no space left" in outcomes[0].message
                # Operations that need no space still work.
                for verb in ("GetContainerStatus", "ListManagedContainers"):
                    assert "OK" == world.recorder.call(stub, verb, request_of(verb, kept), 20).code
    lost = world.settled(entries)
    codes = world.recorder.codes()
    report(FaultRow("disk full", times, codes.total(), codes, lost))


@contextmanager
def _full(disk: Path) -> Iterator[None]:
    """Inside, the file system has no free byte."""
    filler = disk / "filler"
    descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT)
    try:
        for block in (_BLOCK, b"0"):
            with suppress(OSError):
                while os.write(descriptor, block):
                    pass
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            os.write(descriptor, _BLOCK)
        yield
    finally:
        os.close(descriptor)
        filler.unlink()
