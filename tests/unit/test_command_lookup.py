"""A container's command is looked up as the kernel does it, inside the container."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from container_manager.backends.docker.command_check import CommandCheck
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.errors import EngineTimeoutError, EngineUnavailableError
from tests.support.fake_engine import Cut, FakeEngine, Hang, error
from tests.unit.command_files import (
    ARCHIVE,
    CONTENT,
    DIRECTORY,
    FOLDER,
    LINK,
    PLAIN,
    PROGRAM,
    Files,
    command_check,
    container,
    has,
)
from tests.unit.documents import inspected, path_stat


@pytest.fixture
def check(engine: FakeEngine, client: EngineClient) -> CommandCheck:
    return command_check(engine, client)


@pytest.fixture
def asked(engine: FakeEngine, check: CommandCheck) -> Callable[..., tuple[bool, list[str]]]:
    """Check one command in a container with these files; returns the answer and the paths that were looked at."""

    def ask(files: Files, command: str, path: str | None = "/usr/bin:/bin", directory: str = "") -> Any:
        has(engine, files)
        before = len(engine.requests)
        answer = check.needs_init(container(command, path, directory, Mounts=[]), Deadline(5))
        return answer, [request.query["path"] for request in engine.requests[before:] if request.method == "HEAD"]

    return ask


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


@pytest.mark.parametrize(("answer", "cls"), [(Hang(), EngineTimeoutError), (Cut(), EngineUnavailableError)])
def test_no_answer_is_no_doubt_but_a_failure(
    engine: FakeEngine, check: CommandCheck, answer: Hang, cls: type[Exception]
) -> None:
    engine.on(*ARCHIVE, answer)
    with pytest.raises(cls):
        check.needs_init(container("/bin/sh"), Deadline(0.3))


def test_more_folders_than_are_looked_through_leave_the_init_in_place(asked: Callable[..., Any]) -> None:
    """The command may be in a folder that was not searched, and must not lose its init."""
    assert (True, []) == asked({}, "tool", ":".join(f"/{number}" for number in range(65)))


def test_a_folder_that_a_path_repeats_is_looked_at_once(asked: Callable[..., Any]) -> None:
    assert (False, ["/same", "/same/tool"]) == asked({"/same/other": PROGRAM}, "tool", "/same:" * 5_000 + "/same")
