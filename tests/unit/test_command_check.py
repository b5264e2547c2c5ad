"""The check that a container's command exists: looks it up as the kernel and runc do, and remembers it by image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from container_manager.backends.docker.command_check import CommandCheck
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.errors import EngineTimeoutError, EngineUnavailableError
from tests.support.fake_engine import Answer, Cut, FakeEngine, Hang, Json, Request, error
from tests.unit.documents import inspected, path_stat, state

DIRECTORY = 1 << 31
LINK = 1 << 27
ARCHIVE = ("HEAD", "/containers/*/archive")
INSPECT = ("GET", "/containers/*/json")
Files = Mapping[str, Json]


@pytest.fixture
def check(engine: FakeEngine) -> Iterator[CommandCheck]:
    engine.on(*INSPECT, Json(inspected()))
    client = EngineClient(engine.url, timeout_seconds=5)
    yield CommandCheck(client)
    client.close()


@pytest.fixture
def asked(engine: FakeEngine, check: CommandCheck) -> Callable[..., tuple[bool, list[str]]]:
    """Check one command in a container with these files; returns the answer and the paths that were read."""

    def ask(files: Files, command: str, path: str | None = "/usr/bin:/bin", directory: str = "") -> Any:
        engine.on(*ARCHIVE, lambda request: files.get(request.query["path"], error(404, "no such file")))
        before = len(engine.requests)
        answer = check.is_runnable(container(command, path, directory), Deadline(5))
        return answer, [request.query["path"] for request in engine.requests[before:] if request.method == "HEAD"]

    return ask


def container(command: str, path: str | None = "/usr/bin:/bin", directory: str = "", **changes: Any) -> dict[str, Any]:
    environment = ["A=1"] if path is None else ["A=1", f"PATH={path}"]
    return inspected(Path=command, config={"Env": environment, "WorkingDir": directory}, **changes)


PROGRAM, PLAIN = path_stat(0o755), path_stat(0o644)


@pytest.mark.parametrize(
    ("files", "command", "looked_at"),
    [
        ({"/usr/bin/sh": PROGRAM}, "sh", ["/usr/bin/sh"]),
        ({"/bin/sh": PROGRAM}, "sh", ["/usr/bin/sh", "/bin/sh"]),
        ({"/usr/bin/sh": PLAIN, "/bin/sh": PROGRAM}, "sh", ["/usr/bin/sh", "/bin/sh"]),
        ({"/usr/bin/sh": path_stat(DIRECTORY | 0o755), "/bin/sh": PROGRAM}, "sh", ["/usr/bin/sh", "/bin/sh"]),
        ({"/opt/run": PROGRAM}, "/opt/run", ["/opt/run"]),
        ({"/usr/bin/sh": path_stat(0o001)}, "sh", ["/usr/bin/sh"]),
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
        ("/a/../b", "/b"),
    ],
)
def test_a_link_is_followed_inside_the_container(asked: Any, target: str, resolved: str) -> None:
    files = {"/usr/bin/sh": path_stat(LINK | 0o777, target), resolved: PROGRAM}
    assert (True, ["/usr/bin/sh", resolved]) == asked(files, "sh")


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
    engine.on(*ARCHIVE, lambda request: files.get(request.query["path"], error(404, "no such file")))
    document = inspected(Path="/run/podman-init", config={"Env": ["PATH=/bin"], **config})
    assert runnable is check.is_runnable(document, Deadline(5))


def test_a_chain_of_links_is_followed(asked: Any) -> None:
    files = {"/bin/a": path_stat(LINK, "b"), "/bin/b": path_stat(LINK, "/c"), "/c": PROGRAM}
    assert (True, ["/bin/a", "/bin/b", "/c"]) == asked(files, "/bin/a")


def test_links_without_end_are_in_doubt_and_so_runnable(asked: Any) -> None:
    answer, looked_at = asked({"/bin/a": path_stat(LINK, "/bin/a")}, "/bin/a")
    assert answer is True
    assert len(looked_at) < 20


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
    answer, (path,) = asked(
        {looked_at: PROGRAM, looked_at.replace("/app/", "/app/./"): PROGRAM}, command, None, directory
    )
    assert answer is True
    assert looked_at == path.replace("/./", "/")


def test_without_a_path_the_engines_own_is_searched(asked: Any) -> None:
    answer, looked_at = asked({}, "sh", None)
    assert answer is False
    folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    assert [f"{folder}/sh" for folder in folders] == looked_at


@pytest.mark.parametrize("command", ["sh", "/bin/sh"])
@pytest.mark.parametrize("runnable", [True, False])
def test_what_was_found_is_remembered_by_image(
    engine: FakeEngine, check: CommandCheck, command: str, runnable: bool
) -> None:
    engine.on(*ARCHIVE, PROGRAM if runnable else error(404, "no"))
    assert runnable is check.is_runnable(container(command), Deadline(5))
    asked = len(engine.seen(*ARCHIVE))
    assert runnable is check.is_runnable(container(command, container_id="b" * 64), Deadline(5))
    assert asked == len(engine.seen(*ARCHIVE))


@pytest.mark.parametrize(
    "other",
    [
        container("other"),
        container("sh", path="/opt"),
        container("sh", directory="/app"),
        container("sh", Image="sha256:" + "cd" * 32),
    ],
    ids=["command", "path", "directory", "image"],
)
def test_what_was_found_counts_for_the_same_command_only(
    engine: FakeEngine, check: CommandCheck, other: dict[str, Any]
) -> None:
    engine.on(*ARCHIVE, PROGRAM)
    check.is_runnable(container("sh"), Deadline(5))
    check.is_runnable(other, Deadline(5))
    assert 2 == len(engine.seen(*ARCHIVE))


def test_an_error_of_the_engine_means_runnable_and_is_not_remembered(engine: FakeEngine, check: CommandCheck) -> None:
    engine.on(*ARCHIVE, error(500, "fault"), error(404, "no"))
    assert check.is_runnable(container("/bin/sh"), Deadline(5)) is True
    assert check.is_runnable(container("/bin/sh"), Deadline(5)) is False


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
    engine.on(*ARCHIVE, error(404, "no"), PROGRAM)
    engine.on(*INSPECT, found)
    assert check.is_runnable(container("/bin/sh"), Deadline(5)) is True
    assert {} == check._runnable
    assert check.is_runnable(container("/bin/sh"), Deadline(5)) is True
    assert 2 == len(engine.seen(*ARCHIVE))


@pytest.mark.parametrize(("answer", "cls"), [(Hang(), EngineTimeoutError), (Cut(), EngineUnavailableError)])
def test_no_answer_is_no_doubt_but_a_failure(
    engine: FakeEngine, check: CommandCheck, answer: Hang, cls: type[Exception]
) -> None:
    engine.on(*ARCHIVE, answer)
    with pytest.raises(cls):
        check.is_runnable(container("/bin/sh"), Deadline(0.3))


def test_memory_is_bounded(engine: FakeEngine, check: CommandCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("container_manager.backends.docker.command_check._MAX_REMEMBERED", 3)

    def found(_: Request) -> Json:
        return PROGRAM

    engine.on(*ARCHIVE, found)
    for number in range(10):
        check.is_runnable(container(f"/bin/{number}"), Deadline(5))
    assert len(check._runnable) <= 3


def test_more_folders_than_are_looked_through_leave_the_init_in_place(asked: Callable[..., Any]) -> None:
    """The command may be in a folder that was not searched, and must not lose its init."""
    assert (True, []) == asked({}, "tool", ":".join(f"/{number}" for number in range(65)))


def test_a_folder_that_a_path_repeats_is_looked_at_once(asked: Callable[..., Any]) -> None:
    assert (False, ["/same/tool"]) == asked({}, "tool", "/same:" * 5_000 + "/same")
