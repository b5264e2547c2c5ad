"""The check of a container's program: it is looked up as the kernel does, and what mounts can change is not kept."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

import pytest

from container_manager.backends.docker.command_check import CommandCheck
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.errors import (
    CommandNotFoundError,
    EngineTimeoutError,
    EngineUnavailableError,
    StartFailedError,
)
from container_manager.model import ContainerState
from tests.support.fake_engine import Answer, Cut, FakeEngine, Hang, Json, error
from tests.unit.documents import BOT, ID, OTHER_ID, archived, inspected, path_stat, state

DIRECTORY = 1 << 31
LINK = 1 << 27
ARCHIVE = ("HEAD", "/containers/*/archive")
CONTENT = ("GET", "/containers/*/archive")
INSPECT = ("GET", "/containers/*/json")
STATE = "/home/node/.openclaw"
Files = Mapping[str, Json]


@pytest.fixture
def check(engine: FakeEngine) -> Iterator[CommandCheck]:
    engine.on(*INSPECT, Json(inspected()))
    engine.on(*CONTENT, archived(b"\x7fELF\x02\x01\x01" + b"\0" * 9 + b"\x02\0>\0" + b"\0" * 100))
    engine.on("GET", "/version", Json({"ApiVersion": "1.41", "Arch": "amd64"}))
    client = EngineClient(engine.url, timeout_seconds=5)
    yield CommandCheck(client)
    client.close()


def has(engine: FakeEngine, files: Files) -> None:
    """Let the containers have these files, in real directories unless a link is among them."""
    folders = {parent.as_posix() for path in files for parent in PurePosixPath(path).parents}
    known = {**dict.fromkeys(folders, path_stat(DIRECTORY | 0o755)), **files}
    engine.on(*ARCHIVE, lambda request: known.get(request.query["path"], error(404, "no such file")))


@pytest.fixture
def asked(engine: FakeEngine, check: CommandCheck) -> Callable[..., tuple[bool, list[str]]]:
    """Check one command in a container with these files; returns the answer and the paths that were looked at."""

    def ask(files: Files, command: str, path: str | None = "/usr/bin:/bin", directory: str = "") -> Any:
        has(engine, files)
        before = len(engine.requests)
        answer = check.needs_init(container(command, path, directory), Deadline(5))
        return answer, [request.query["path"] for request in engine.requests[before:] if request.method == "HEAD"]

    return ask


def container(command: str, path: str | None = "/usr/bin:/bin", directory: str = "", **changes: Any) -> dict[str, Any]:
    environment = ["A=1"] if path is None else ["A=1", f"PATH={path}"]
    mounts = [{"Destination": "/run/secrets"}, {"Destination": STATE}]
    document = {"Path": command, "Mounts": mounts, "HostConfig": {"Init": True}, **changes}
    return inspected(config={"Env": environment, "WorkingDir": directory}, **document)


PROGRAM, PLAIN, FOLDER = path_stat(0o755), path_stat(0o644), path_stat(DIRECTORY | 0o755)


@pytest.mark.parametrize(
    ("files", "command", "looked_at"),
    [
        ({"/usr/bin/sh": PROGRAM}, "sh", ["/usr", "/usr/bin", "/usr/bin/sh"]),
        ({"/bin/sh": PROGRAM}, "sh", ["/usr", "/bin", "/bin/sh"]),
        ({"/usr/bin/sh": PLAIN, "/bin/sh": PROGRAM}, "sh", ["/usr", "/usr/bin", "/usr/bin/sh", "/bin", "/bin/sh"]),
        ({"/usr/bin/sh": FOLDER, "/bin/sh": PROGRAM}, "sh", ["/usr", "/usr/bin", "/usr/bin/sh", "/bin", "/bin/sh"]),
        ({"/opt/run": PROGRAM}, "/opt/run", ["/opt", "/opt/run"]),
        ({"/usr/bin/sh": path_stat(0o001)}, "sh", ["/usr", "/usr/bin", "/usr/bin/sh"]),
    ],
)
def test_a_command_that_is_there_is_runnable(asked: Any, files: Files, command: str, looked_at: list[str]) -> None:
    assert (True, looked_at) == asked(files, command)


@pytest.mark.parametrize(
    ("files", "command"),
    [
        ({}, "sh"),
        ({}, "/opt/run"),
        ({"/bin/run": PROGRAM}, "/opt/run"),
        ({"/usr/bin/sh": PLAIN}, "sh"),
        ({"/opt/run": PLAIN}, "/opt/run"),
        ({"/opt/run": path_stat(DIRECTORY | 0o755)}, "/opt/run"),
        ({"/sh": PROGRAM}, "sh"),
        ({"/opt/run": path_stat(LINK | 0o777, "/gone")}, "/opt/run"),
    ],
)
def test_a_command_that_is_plainly_not_there_is_not_runnable(asked: Any, files: Files, command: str) -> None:
    assert asked(files, command)[0] is False


@pytest.mark.parametrize(
    ("target", "resolved"),
    [
        ("/real/busybox", "/real/busybox"),
        ("busybox", "/usr/bin/busybox"),
        ("../lib/x", "/usr/lib/x"),
        ("/usr/../b", "/b"),
    ],
)
def test_a_link_is_followed_inside_the_container(asked: Any, target: str, resolved: str) -> None:
    files = {"/usr/bin/sh": path_stat(LINK | 0o777, target), resolved: PROGRAM}
    answer, looked_at = asked(files, "sh")
    assert (True, resolved) == (answer, looked_at[-1])


@pytest.mark.parametrize(
    ("config", "runnable"),
    [
        ({"Entrypoint": [], "Cmd": ["nope", "sh"]}, False),
        ({"Entrypoint": None, "Cmd": ["sh", "nope"]}, True),
        ({"Entrypoint": ["nope"], "Cmd": ["sh"]}, False),
        ({"Entrypoint": ["sh"], "Cmd": None}, True),
    ],
)
def test_an_engine_that_shows_its_init_as_the_path_is_asked_for_the_containers_own_command(
    engine: FakeEngine, check: CommandCheck, config: dict[str, Any], *, runnable: bool
) -> None:
    """Podman does this."""
    files = {"/bin/sh": PROGRAM, "/run/podman-init": PROGRAM}
    has(engine, files)
    document = inspected(Path="/run/podman-init", config={"Env": ["PATH=/bin"], **config})
    assert runnable is check.needs_init(document, Deadline(5))


def test_a_chain_of_links_is_followed(asked: Any) -> None:
    files = {"/bin/a": path_stat(LINK, "b"), "/bin/b": path_stat(LINK, "/c"), "/c": PROGRAM}
    assert (True, ["/bin", "/bin/a", "/bin/b", "/c"]) == asked(files, "/bin/a")


def test_a_link_of_a_folder_is_followed(asked: Any) -> None:
    files = {"/opt/bin": path_stat(LINK, "../usr/local/bin"), "/usr/local/bin/run": PROGRAM}
    answer, looked_at = asked(files, "/opt/bin/run")
    assert (True, "/usr/local/bin/run") == (answer, looked_at[-1])


def chain(length: int) -> Files:
    """Links that lead to a program."""
    links = {f"/bin/{number}": path_stat(LINK, str(number + 1)) for number in range(length)}
    return {**links, f"/bin/{length}": PROGRAM}


@pytest.mark.parametrize(("length", "runnable"), [(40, True), (41, False)])
def test_links_are_followed_as_far_as_the_kernel_follows_them(asked: Any, length: int, runnable: bool) -> None:
    assert runnable is asked(chain(length), "/bin/0")[0]


def test_links_without_end_lead_to_no_command(asked: Any) -> None:
    answer, looked_at = asked({"/bin/a": path_stat(LINK, "/bin/a")}, "/bin/a")
    assert answer is False
    assert ["/bin", "/bin/a"] == looked_at


@pytest.mark.parametrize(
    ("text", "runnable"), [("evalSymlinksInScope: too many links in /bin/a", False), ("out of order", True)]
)
def test_an_engine_that_follows_links_itself_says_that_they_have_no_end(
    engine: FakeEngine, check: CommandCheck, text: str, runnable: bool
) -> None:
    """Docker's answer to HEAD has no text."""
    engine.on(*ARCHIVE, lambda request: FOLDER if request.query["path"] == "/bin" else error(500, ""))
    engine.on(*CONTENT, error(500, text))
    assert runnable is check.needs_init(container("/bin/a"), Deadline(5))


@pytest.mark.parametrize("rest", ["x", ".", "..", "../sh", "x/y"])
@pytest.mark.parametrize("file", ["/bin/sh", "/bin/link"])
def test_a_path_that_leads_through_a_file_is_none_of_a_command(asked: Any, file: str, rest: str) -> None:
    """Docker 20.10 answers such a path with status 500."""
    files = {"/bin/sh": PROGRAM, "/bin/link": path_stat(LINK, "sh")}
    answer, looked_at = asked(files, f"{file}/{rest}")
    assert answer is False
    assert looked_at[-1] == "/bin/sh"


def test_a_link_to_a_file_with_a_slash_behind_it_leads_to_no_command(asked: Any) -> None:
    assert asked({"/bin/sh": PROGRAM, "/bin/link": path_stat(LINK, "sh/")}, "/bin/link")[0] is False


@pytest.mark.parametrize(("name", "runnable"), [("a" * 255, True), ("a" * 256, False), ("é" * 128, False)])
def test_a_name_has_at_most_255_bytes(asked: Any, name: str, runnable: bool) -> None:
    answer, looked_at = asked({f"/{name}": PROGRAM}, f"/{name}")
    assert (runnable, [f"/{name}"] if runnable else []) == (answer, looked_at)


@pytest.mark.parametrize(
    ("command", "directory", "looked_at"),
    [
        ("./run", "/app", "/app/run"),
        ("bin/run", "/app", "/app/bin/run"),
        ("bin/run", "", "/bin/run"),
        ("/run", "/app", "/run"),
    ],
)
def test_a_path_is_relative_to_the_working_directory(asked: Any, command: str, directory: str, looked_at: str) -> None:
    answer, found = asked({looked_at: PROGRAM}, command, None, directory)
    assert (True, looked_at) == (answer, found[-1])


def test_without_a_path_the_engines_own_is_searched(asked: Any) -> None:
    answer, looked_at = asked({}, "sh", None)
    assert answer is False
    assert ["/usr", "/sbin", "/bin"] == looked_at
    folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    looked_at = asked({f"{folder}/other": PROGRAM for folder in folders}, "tool", None)[1]
    assert [f"{folder}/tool" for folder in folders] == [path for path in looked_at if path.endswith("/tool")]


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
    "/opt/through": {"/opt/through": path_stat(LINK, f"{STATE}/link"), f"{STATE}/link": path_stat(LINK, "/bin/sh")},
}


@pytest.mark.parametrize("command", IN_MOUNTS)
@pytest.mark.parametrize("is_there", [True, False])
def test_nothing_that_a_mount_can_change_is_remembered(
    engine: FakeEngine, check: CommandCheck, command: str, is_there: bool
) -> None:
    """Its container has an init, and each look asks the engine."""
    programs = dict.fromkeys((f"{STATE}/run", "/run/secrets/run", "/bin/sh"), PROGRAM)
    has(
        engine, {**IN_MOUNTS[command], "/home/node/x/y": PLAIN, **(programs if is_there else {"/run/secrets/y": PLAIN})}
    )
    for _ in range(2):
        engine.requests.clear()
        assert check.needs_init(container(command), Deadline(5)) is True
        assert len(engine.seen(*ARCHIVE)) > 1
    assert {} == check._by_image


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
    ],
    ids=["command", "path", "directory", "image", "mounts"],
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


@pytest.mark.parametrize(("answer", "cls"), [(Hang(), EngineTimeoutError), (Cut(), EngineUnavailableError)])
def test_no_answer_is_no_doubt_but_a_failure(
    engine: FakeEngine, check: CommandCheck, answer: Hang, cls: type[Exception]
) -> None:
    engine.on(*ARCHIVE, answer)
    with pytest.raises(cls):
        check.needs_init(container("/bin/sh"), Deadline(0.3))


CRLF = archived(b"#!/bin/sh\r\n")


def start(check: CommandCheck, container_state: ContainerState = ContainerState.CREATED) -> type[Exception] | None:
    try:
        check.check_start(ID, container_state, BOT, Deadline(5))
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
        check.check_start(OTHER_ID, ContainerState.CREATED, BOT, Deadline(5))


def test_a_container_without_init_is_judged_by_the_engine(engine: FakeEngine, check: CommandCheck) -> None:
    has(engine, {"/bin/other": PROGRAM})
    engine.on(*INSPECT, Json(container("run", HostConfig={"Init": False})))
    assert start(check) is None
    check.engine_judges(ID)
    engine.requests.clear()
    assert start(check) is None
    assert [] == engine.requests


@pytest.mark.parametrize("container_state", [ContainerState.EXITED, ContainerState.RUNNING, ContainerState.DEAD])
def test_a_container_that_this_process_knows_nothing_of_and_that_was_started_before_is_not_looked_at(
    engine: FakeEngine, check: CommandCheck, container_state: ContainerState
) -> None:
    assert start(check, container_state) is None
    assert [] == engine.requests


def test_a_program_in_a_mount_is_looked_up_at_each_start(engine: FakeEngine, check: CommandCheck) -> None:
    engine.on(*INSPECT, Json(container(f"{STATE}/run")))
    has(engine, {f"{STATE}/other": PROGRAM})
    assert check.needs_init(container(f"{STATE}/run"), Deadline(5)) is True
    assert CommandNotFoundError is start(check)
    has(engine, {f"{STATE}/run": PROGRAM})
    assert start(check) is None
    engine.on(*CONTENT, CRLF)
    assert CommandNotFoundError is start(check, ContainerState.EXITED)


def test_a_container_that_is_gone_is_left_to_the_start(engine: FakeEngine, check: CommandCheck) -> None:
    engine.on(*INSPECT, error(404, "No such container"))
    assert start(check) is None


def test_memory_is_bounded(engine: FakeEngine, check: CommandCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("container_manager.backends.docker.command_check._MAX_REMEMBERED", 3)

    monkeypatch.setattr("container_manager.backends.docker.command_check._MAX_CONTAINERS", 3)
    has(engine, {f"/bin/{number}": PROGRAM for number in range(10)})
    for number in range(10):
        check.needs_init(container(f"/bin/{number}"), Deadline(5))
        check.engine_judges(f"{number:064x}")
    assert len(check._by_image) <= 3
    assert len(check._by_container) <= 3


def test_more_folders_than_are_looked_through_leave_the_init_in_place(asked: Callable[..., Any]) -> None:
    """The command may be in a folder that was not searched, and must not lose its init."""
    assert (True, []) == asked({}, "tool", ":".join(f"/{number}" for number in range(65)))


def test_a_folder_that_a_path_repeats_is_looked_at_once(asked: Callable[..., Any]) -> None:
    assert (False, ["/same", "/same/tool"]) == asked({"/same/other": PROGRAM}, "tool", "/same:" * 5_000 + "/same")


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
