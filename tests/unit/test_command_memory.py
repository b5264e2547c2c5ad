"""What is remembered of commands by image: little, and nothing that a mount or a fault of the engine can change."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from container_manager.backends.docker.command_check import CommandCheck
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from tests.support.fake_engine import Answer, FakeEngine, Json, error
from tests.unit.command_files import (
    ARCHIVE,
    CONTENT,
    INSPECT,
    LINK,
    PLAIN,
    PROGRAM,
    STATE,
    Files,
    command_check,
    container,
    has,
)
from tests.unit.documents import BOT, archived, inspected, path_stat, state


@pytest.fixture
def check(engine: FakeEngine, client: EngineClient) -> CommandCheck:
    return command_check(engine, client)


@pytest.mark.parametrize("command", ["sh", "/bin/sh"])
@pytest.mark.parametrize("runnable", [True, False])
def test_what_no_mount_can_change_is_remembered_by_image(
    engine: FakeEngine, check: CommandCheck, command: str, runnable: bool
) -> None:
    """Without this, each create would cost a call for each folder of the path."""
    has(engine, {"/bin/sh": PROGRAM} if runnable else {"/bin/other": PROGRAM})
    assert runnable is check.needs_init(container(command), Deadline(5))
    asked = len(engine.seen(*ARCHIVE)) + len(engine.seen(*CONTENT))
    assert runnable is check.needs_init(container(command, container_id="b" * 64), Deadline(5))
    assert asked == len(engine.seen(*ARCHIVE)) + len(engine.seen(*CONTENT))


IN_MOUNTS: dict[str, Files] = {
    f"{STATE}/run": {},
    "/run/secrets/run": {},
    "/home/node/x/../.openclaw/run": {},
    "/opt/link": {"/opt/link": path_stat(LINK, f"{STATE}/run")},
    "/opt/folder/run": {"/opt/folder": path_stat(LINK, STATE)},
    # The engine mounts it where the image's links lead to.
    "/data/node/.openclaw/run": {"/home/node": path_stat(LINK, "/data/node")},
    f"{STATE}/link": {"/home/node": path_stat(LINK, "../data/node"), "/data/node/.openclaw/link": PROGRAM},
    "/opt/through": {"/opt/through": path_stat(LINK, f"{STATE}/link"), f"{STATE}/link": path_stat(LINK, "/bin/sh")},
}


@pytest.mark.parametrize("command", IN_MOUNTS)
@pytest.mark.parametrize("is_there", [True, False])
def test_nothing_that_a_mount_can_change_is_remembered(
    engine: FakeEngine, check: CommandCheck, command: str, is_there: bool
) -> None:
    """Its container has an init, and each look asks the engine."""
    programs = dict.fromkeys((f"{STATE}/run", "/run/secrets/run", "/bin/sh", "/data/node/.openclaw/run"), PROGRAM)
    has(
        engine,
        {
            **IN_MOUNTS[command],
            "/home/node/x/y": PLAIN,
            "/data/node/x": PLAIN,
            **(programs if is_there else {"/run/secrets/y": PLAIN}),
        },
    )
    for _ in range(2):
        engine.requests.clear()
        assert check.needs_init(container(command), Deadline(5)) is True
        assert len(engine.seen(*ARCHIVE)) > 1
    assert {} == check._by_image


@pytest.mark.parametrize("user", ["node", "1000"])
def test_the_names_of_users_that_a_mount_has_are_not_remembered(
    engine: FakeEngine, check: CommandCheck, user: str
) -> None:
    has(engine, {"/bin/run": path_stat(0o700), "/etc/passwd": PLAIN})
    engine.on(*CONTENT, archived(b"node:x:1000:\n", 0o700))
    document = container("/bin/run", Mounts=[{"Destination": "/etc/passwd"}])
    document["Config"]["User"] = user
    check.needs_init(document, Deadline(5))
    assert len(check._by_image) == (user == "1000")


def test_a_folder_of_the_path_in_a_mount_is_looked_into_each_time(engine: FakeEngine, check: CommandCheck) -> None:
    has(engine, {"/bin/sh": PROGRAM})
    assert check.needs_init(container("sh", path=f"{STATE}/bin:/bin"), Deadline(5)) is True
    has(engine, {"/bin/other": PROGRAM})
    assert check.needs_init(container("sh", path=f"{STATE}/bin:/bin"), Deadline(5)) is True
    assert check.needs_init(container("sh", path="/bin"), Deadline(5)) is False


@pytest.mark.parametrize(
    "other",
    [
        container("other"),
        container("sh", path="/opt"),
        container("sh", directory="/app"),
        container("sh", Image="sha256:" + "cd" * 32),
        container("sh", Mounts=[{"Destination": "/data"}]),
        container("sh", HostConfig={"Init": True}),
    ],
    ids=["command", "path", "directory", "image", "mounts", "capabilities"],
)
def test_what_was_found_counts_for_the_same_command_only(
    engine: FakeEngine, check: CommandCheck, other: dict[str, Any]
) -> None:
    has(engine, {"/bin/sh": PROGRAM})
    check.needs_init(container("sh"), Deadline(5))
    engine.requests.clear()
    check.needs_init(other, Deadline(5))
    assert len(engine.seen(*ARCHIVE)) >= 1


@pytest.mark.parametrize("command", ["/proc/self/exe", "/dev/fd/3", "/sys/x", "/bin/link"])
def test_a_file_that_only_a_running_container_has_is_a_doubt(
    engine: FakeEngine, check: CommandCheck, command: str
) -> None:
    has(engine, {"/bin/link": path_stat(LINK, "/proc/1/exe")})
    assert check.needs_init(container(command), Deadline(5)) is True
    assert {} == check._by_image


def test_an_error_of_the_engine_is_a_doubt_and_is_not_remembered(engine: FakeEngine, check: CommandCheck) -> None:
    engine.on(*ARCHIVE, error(500, "fault"), error(404, "no"))
    assert check.needs_init(container("/bin/sh"), Deadline(5)) is True
    assert check.needs_init(container("/bin/sh"), Deadline(5)) is False


@pytest.mark.parametrize(
    "found",
    [
        error(404, "No such container"),
        Json(inspected(state("removing"))),
        Json(inspected(state("dead"))),
        error(500, "fault"),
    ],
    ids=["gone", "removing", "dead", "unknown"],
)
def test_a_container_that_is_removed_meanwhile_teaches_nothing_about_its_image(
    engine: FakeEngine, check: CommandCheck, found: Answer
) -> None:
    """The engine gives the same answer as for a missing command."""
    engine.on(*ARCHIVE, error(404, "no"))
    engine.on(*INSPECT, found)
    assert check.needs_init(container("/bin/sh"), Deadline(5)) is True
    assert {} == check._by_image


def test_memory_is_bounded(engine: FakeEngine, check: CommandCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("container_manager.backends.docker.command_check._MAX_REMEMBERED", 3)

    monkeypatch.setattr("container_manager.backends.docker.command_check._MAX_CONTAINERS", 3)
    has(engine, {f"/bin/{number}": PROGRAM for number in range(10)})
    for number in range(10):
        check.needs_init(container(f"/bin/{number}"), Deadline(5))
        check.engine_judges(f"{number:064x}")
        engine.on(*INSPECT, Json(container(f"/bin/{number}", container_id=f"{100 + number:064x}")))
        check._by_image.clear()
        check.check_start(f"{100 + number:064x}", BOT, Deadline(5))
    assert len(check._by_image) <= 3
    assert len(check._sound_at_starts) == 1
    assert len(check._by_container) <= 3


@pytest.mark.parametrize("length", [1, 500, 2_000])
def test_what_is_remembered_of_a_container_is_small_whatever_its_caller_wrote(
    engine: FakeEngine, check: CommandCheck, length: int
) -> None:
    """And no two that differ pass for one."""
    has(engine, {})
    long = "/x" * length
    long_user = container("sh")
    long_user["Config"]["User"] = long
    containers = [
        container(long),
        container("sh", long),
        container("sh", f"/bin:{long}"),
        container("sh", "/bin", long),
        long_user,
        container("sh", Mounts=[{"Destination": long}]),
        container("sh", Mounts=[{"Destination": "/run/secrets"}, {"Destination": long}]),
    ]
    for each in containers:
        check.needs_init(each, Deadline(60))
    assert len(containers) == len(check._by_image)
    assert len(pickle.dumps(check._by_image)) < 500 * len(containers)
