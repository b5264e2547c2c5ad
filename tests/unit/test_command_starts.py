"""A start that certainly fails for its command is refused, and any other is left to the engine."""

from __future__ import annotations

import pytest

from container_manager.backends.docker.command_check import CommandCheck
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.errors import CommandNotExecutableError, CommandNotFoundError, StartFailedError
from tests.support.fake_engine import FakeEngine, Json, error
from tests.unit.command_files import CONTENT, INSPECT, PROGRAM, STATE, command_check, container, has
from tests.unit.documents import BOT, ID, OTHER_ID, archived, path_stat, state

CRLF = archived(b"#!/bin/sh\r\n")


@pytest.fixture
def check(engine: FakeEngine, client: EngineClient) -> CommandCheck:
    return command_check(engine, client)


def start(check: CommandCheck, container_id: str = ID) -> type[Exception] | None:
    try:
        check.check_start(container_id, BOT, Deadline(5))
    except StartFailedError as exc:
        return type(exc)
    return None


@pytest.mark.parametrize("made_here", [True, False])
def test_a_start_that_certainly_fails_is_refused(engine: FakeEngine, check: CommandCheck, made_here: bool) -> None:
    """A container that this process has not made is looked at before its first start."""
    has(engine, {"/bin/run": PROGRAM})
    engine.on(*CONTENT, CRLF)
    engine.on(*INSPECT, Json(container("run")))
    if made_here:
        assert check.needs_init(container("run"), Deadline(5)) is True
    assert CommandNotFoundError is start(check)
    # Mended, as by docker cp. That says nothing of its image.
    engine.on(*CONTENT, archived(b"echo text\n"))
    assert start(check) is None
    engine.requests.clear()
    assert start(check) is None
    assert [] == engine.requests
    engine.on(*CONTENT, CRLF)
    other = {**container("run"), "Id": OTHER_ID}
    engine.on(*INSPECT, Json(other))
    assert check.needs_init(other, Deadline(5)) is True
    with pytest.raises(CommandNotFoundError):
        check.check_start(OTHER_ID, BOT, Deadline(5))


def test_an_interpreter_whose_path_is_not_utf_8_is_told_in_printable_text(
    engine: FakeEngine, check: CommandCheck
) -> None:
    """gRPC sends no other text."""
    # As the engine in memory decodes its path.
    has(engine, {"/bin/run": PROGRAM, "/opt/\ufffd": PROGRAM})
    script = archived(b"#!/opt/\xe9\n")
    engine.on(*CONTENT, lambda request: script if request.query["path"] == "/bin/run" else archived(b""))
    engine.on(*INSPECT, Json(container("run")))
    with pytest.raises(CommandNotExecutableError, match=r"/opt/\\udce9 is empty"):
        check.check_start(ID, BOT, Deadline(5))


def test_a_container_without_init_is_judged_by_the_engine(engine: FakeEngine, check: CommandCheck) -> None:
    has(engine, {"/bin/other": PROGRAM})
    engine.on(*INSPECT, Json(container("run", HostConfig={"Init": False})))
    assert start(check) is None
    check.engine_judges(ID)
    engine.requests.clear()
    assert start(check) is None
    assert [] == engine.requests


def test_a_container_that_nothing_is_remembered_of_is_looked_at_once(engine: FakeEngine, check: CommandCheck) -> None:
    """Also if it was started before, as by a service that was restarted since. No mount can change its program."""
    has(engine, {"/bin/run": PROGRAM})
    engine.on(*INSPECT, Json(container("run", State=state("exited"))))
    assert start(check) is None
    engine.requests.clear()
    assert start(check) is None
    assert [] == engine.requests


def test_after_a_restart_of_the_service_one_container_of_each_image_is_looked_into(
    engine: FakeEngine, check: CommandCheck
) -> None:
    has(engine, {"/bin/run": PROGRAM})
    for container_id, expected in ((ID, None), (OTHER_ID, [INSPECT[0]])):
        engine.requests.clear()
        engine.on(*INSPECT, Json(container("run", container_id=container_id)))
        assert start(check, container_id) is None
        assert expected in (None, [request.method for request in engine.requests])
    # A new container may be without init only if its own image was looked at.
    assert {} == check._by_image


def test_what_is_wrong_or_mended_in_one_container_counts_for_no_other(engine: FakeEngine, check: CommandCheck) -> None:
    has(engine, {"/bin/run": PROGRAM})
    engine.on(*CONTENT, CRLF)
    for container_id in (ID, OTHER_ID):
        engine.on(*INSPECT, Json(container("run", container_id=container_id)))
        assert CommandNotFoundError is start(check, container_id)
    engine.on(*CONTENT, archived(b"echo text\n"))
    assert start(check, OTHER_ID) is None
    engine.on(*CONTENT, CRLF)
    engine.on(*INSPECT, Json(container("run")))
    assert CommandNotFoundError is start(check)


@pytest.mark.parametrize("in_mount", [True, False])
def test_what_a_mount_can_change_is_looked_up_for_each_container(
    engine: FakeEngine, check: CommandCheck, in_mount: bool
) -> None:
    """Also if the mount is only looked into before the program is found."""
    command = f"{STATE}/run" if in_mount else "run"
    program = f"{STATE}/run" if in_mount else "/bin/run"
    has(engine, {program: PROGRAM, f"{STATE}/other": PROGRAM})
    for container_id, content, expected in ((ID, b"echo text\n", None), (OTHER_ID, b"#!/gone\n", CommandNotFoundError)):
        engine.on(*CONTENT, archived(content))
        engine.on(*INSPECT, Json(container(command, f"{STATE}/bin:/bin", container_id=container_id)))
        assert expected is start(check, container_id)


def test_a_program_in_a_mount_is_looked_up_at_each_start(engine: FakeEngine, check: CommandCheck) -> None:
    engine.on(*INSPECT, Json(container(f"{STATE}/run")))
    has(engine, {f"{STATE}/other": PROGRAM})
    assert check.needs_init(container(f"{STATE}/run"), Deadline(5)) is True
    assert CommandNotFoundError is start(check)
    has(engine, {f"{STATE}/run": PROGRAM})
    assert start(check) is None
    engine.on(*CONTENT, CRLF)
    assert CommandNotFoundError is start(check)


def test_a_container_that_is_gone_is_left_to_the_start(engine: FakeEngine, check: CommandCheck) -> None:
    engine.on(*INSPECT, error(404, "No such container"))
    assert start(check) is None


TEXT = b"echo text\n"
GOOD, NOT_MINE, UNREADABLE = (TEXT, 0o755), (TEXT, 0o700), (b"#!/bin/sh\n", 0o711)
NO_INTERPRETER, FOREIGN, ITS_INTERPRETER_NOT_MINE = (b"#!/gone\n", 0o755), (b"", 0o755), (b"#!/root/x\n", 0o755)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (NOT_MINE, GOOD, (True, None)),
        (NO_INTERPRETER, GOOD, (True, None)),
        (ITS_INTERPRETER_NOT_MINE, GOOD, (True, None)),
        (NOT_MINE, None, (False, None)),
        (NOT_MINE, NOT_MINE, (False, None)),
        # Without init, the engine would run the other one.
        (NOT_MINE, NO_INTERPRETER, (True, CommandNotExecutableError)),
        (NOT_MINE, FOREIGN, (True, CommandNotExecutableError)),
        (NO_INTERPRETER, NOT_MINE, (True, CommandNotFoundError)),
        (NO_INTERPRETER, None, (True, CommandNotFoundError)),
        (ITS_INTERPRETER_NOT_MINE, None, (True, CommandNotExecutableError)),
        # The init runs these.
        (FOREIGN, GOOD, (True, CommandNotExecutableError)),
        (UNREADABLE, GOOD, (True, CommandNotExecutableError)),
    ],
)
def test_the_search_goes_on_as_that_of_the_init_does(
    engine: FakeEngine,
    check: CommandCheck,
    first: tuple[bytes, int],
    second: tuple[bytes, int] | None,
    expected: tuple[bool, type[StartFailedError] | None],
) -> None:
    files = {"/bin/run": first, "/usr/bin/run": second, "/root/x": NOT_MINE, "/bin/sh": GOOD}
    there = {path: file for path, file in files.items() if file is not None}
    has(engine, {path: path_stat(mode) for path, (_, mode) in there.items()})
    engine.on(*CONTENT, lambda request: archived(*there[request.query["path"]]))
    document = container("run", "/bin:/usr/bin")
    document["Config"]["User"] = "1000"
    engine.on(*INSPECT, Json(document))
    has_init = check.needs_init(document, Deadline(5))
    assert expected == (has_init, start(check) if has_init else None)
