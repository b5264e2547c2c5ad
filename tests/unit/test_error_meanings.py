"""The error messages of engines from 20.10 to 28 and of Podman, and the meaning of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from container_manager.bot_directories import RootDirectory
from container_manager.engine.error_meanings import (
    DISK_PHRASES,
    START_PHRASES,
    create_error,
    engine_error,
    is_name_conflict,
    start_error,
)
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import (
    CapacityExceededError,
    CommandNotExecutableError,
    CommandNotFoundError,
    ContainerManagerError,
    EngineUnavailableError,
    InvalidConfigError,
    InvalidStateError,
    OperationInProgressError,
    PortInUseError,
    SecretsUnavailableError,
    StartFailedError,
    StateUnavailableError,
)

BOT = "0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11"
RUNC_OLD = "OCI runtime create failed: container_linux.go:380: starting container process caused: "
RUNC = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: "
    "unable to start container process: "
)
PODMAN_MISSING = ": No such file or directory: OCI runtime attempted to invoke a command that was not found"
ENDPOINT = "driver failed programming external connectivity on endpoint botmaker (08bb0bd9684c): "
MISSING_MOUNT = (
    'error mounting "/srv/secrets/b" to rootfs at "/run/secrets": mount src=/srv/secrets/b: no such file or directory'
)

ENGINES_OWN = [
    'exec: "docker-init": executable file not found in $PATH',
    'exec: "runc": executable file not found in $PATH',
    RUNC
    + 'error mounting "/no/init" to rootfs at "/sbin/docker-init": stat /no/init: no such file or directory: unknown',
    RUNC + 'exec: "/sbin/docker-init": permission denied: unknown',
    RUNC + "exec /sbin/docker-init: exec format error: unknown",
    'OCI runtime create failed: unable to retrieve OCI runtime error (open log.json): exec: "runc": not found: unknown',
    'failed to start shim: start failed: exec: "containerd-shim-runc-v2": executable file not found in $PATH: unknown',
    "crun: executable file `/run/podman-init` not found" + PODMAN_MISSING,
    "crun: exec container process `/run/podman-init`: Permission denied: OCI permission denied",
    'lookup init binary: exec: "catatonit": executable file not found in $PATH',
]

STARTS = [
    (ENDPOINT + "Bind for 127.0.0.1:8080 failed: port is already allocated", PortInUseError),
    (
        ENDPOINT + "Error starting userland proxy: listen tcp4 127.0.0.1:80: bind: address already in use",
        PortInUseError,
    ),
    (
        "failed to set up container networking: " + ENDPOINT + "failed to bind host port for 0.0.0.0:7148:172.18.0.2:"
        "7148/tcp: address already in use",
        PortInUseError,
    ),
    (RUNC_OLD + 'exec: "nope": executable file not found in $PATH: unknown', CommandNotFoundError),
    (RUNC + 'exec: "nope": executable file not found in $PATH: unknown', CommandNotFoundError),
    (RUNC_OLD + 'exec: "/bin/nope": stat /bin/nope: no such file or directory: unknown', CommandNotFoundError),
    (RUNC + 'exec: "/bin/nope": stat /bin/nope: no such file or directory: unknown', CommandNotFoundError),
    (RUNC + 'exec: "/bin/sh/x": stat /bin/sh/x: not a directory: unknown', CommandNotFoundError),
    (RUNC + 'exec: "/loop": stat /loop: too many levels of symbolic links: unknown', CommandNotFoundError),
    (RUNC + 'exec: "/aaaa": stat /aaaa: file name too long: unknown', CommandNotFoundError),
    (RUNC + "exec /app: no such file or directory: unknown", CommandNotFoundError),
    (RUNC + 'exec: "x": cannot run executable found relative to current directory: unknown', CommandNotExecutableError),
    (RUNC + "error running hook: fork/exec /opt/hook: no such file or directory: unknown", StartFailedError),
    (RUNC + "error running hook: fork/exec /opt/hook: permission denied: unknown", StartFailedError),
    (RUNC_OLD + 'exec: "./run.sh": permission denied: unknown', CommandNotExecutableError),
    (RUNC + 'exec: "/entrypoint.sh": permission denied: unknown', CommandNotExecutableError),
    (RUNC + "exec /entrypoint.sh: permission denied: unknown", CommandNotExecutableError),
    (RUNC + "exec /usr/bin/caddy: operation not permitted: unknown", CommandNotExecutableError),
    (RUNC + "error running hook: fork/exec /opt/hook: operation not permitted: unknown", StartFailedError),
    (RUNC + 'exec: "/data": is a directory: unknown: permission denied', CommandNotExecutableError),
    (RUNC + "exec /app: exec format error: unknown", CommandNotExecutableError),
    ("crun: executable file `nope` not found in $PATH" + PODMAN_MISSING, CommandNotFoundError),
    ("crun: executable file `/bin/nope` not found" + PODMAN_MISSING, CommandNotFoundError),
    ("crun: executable file not found in $PATH" + PODMAN_MISSING, CommandNotFoundError),
    ("crun: exec container process (missing dynamic library?) `/app`" + PODMAN_MISSING, CommandNotFoundError),
    ("crun: open executable: Permission denied: OCI permission denied", CommandNotExecutableError),
    ("crun: open executable: Operation not permitted: OCI permission denied", CommandNotExecutableError),
    ("crun: exec container process `/app`: Permission denied: OCI permission denied", CommandNotExecutableError),
    ("crun: exec container process `/app`: Operation not permitted: OCI permission denied", CommandNotExecutableError),
    ("crun: exec container process `/app`: Exec format error: OCI runtime error", CommandNotExecutableError),
    ("crun: cannot stat `/srv/secrets/b`" + PODMAN_MISSING, StartFailedError),
    ("crun: write to `/sys/fs/cgroup/pids.max`: Permission denied: OCI permission denied", StartFailedError),
    (RUNC + MISSING_MOUNT + ": unknown", StartFailedError),
    (RUNC + 'error mounting "/x" to rootfs at "/y": permission denied: unknown', StartFailedError),
    ('invalid mount config for type "bind": bind source path does not exist: /srv/secrets/b', SecretsUnavailableError),
    ("network bots not found", StartFailedError),
    (
        "container 4f02f2e69f3c must be in Created or Stopped state to be started: container state improper",
        InvalidStateError,
    ),
    ("Cannot restart container b: container is marked for removal and cannot be started", InvalidStateError),
    ("mkdir /var/lib/docker/overlay2/x: no space left on device", CapacityExceededError),
    ("mkdir /var/lib/docker/overlay2/x: disk quota exceeded", CapacityExceededError),
    ("the reason is one that nobody has seen yet", StartFailedError),
    ("", StartFailedError),
]


@pytest.mark.parametrize(("text", "cls"), STARTS)
@pytest.mark.parametrize("status", [400, 404, 500])
def test_a_failed_start_is_told_apart_by_the_engines_text(
    text: str, cls: type[ContainerManagerError], status: int
) -> None:
    error = start_error(EngineRejectedError(status, text), BOT)
    assert cls is type(error)
    assert text in str(error)
    assert {"bot_id": BOT} == error.metadata


@pytest.mark.parametrize("meaning", [start_error, create_error])
@pytest.mark.parametrize(
    ("source", "cls"),
    [
        (f"/srv/State/{BOT}", StateUnavailableError),
        (f"/srv/secrets/{BOT}", SecretsUnavailableError),
        (f"/srv/secrets/srv/State/{BOT}", SecretsUnavailableError),
    ],
)
def test_a_directory_that_the_engine_does_not_see_is_told_by_its_path(
    meaning: Callable[..., ContainerManagerError], source: str, cls: type[ContainerManagerError]
) -> None:
    text = f'invalid mount config for type "bind": bind source path does not exist: {source}'
    error = meaning(EngineRejectedError(400, text), BOT, RootDirectory(Path("/here"), Path("/srv/State")))
    assert cls is type(error)
    assert source in str(error)


IN_USE = "address already in use"
PROXY = ENDPOINT + "Error starting userland proxy: listen "
BIND = ENDPOINT + "failed to bind host port "
TAKEN = [
    # 20.10 to 27, with and without the userland proxy.
    (ENDPOINT + "Bind for 127.0.0.1:8080 failed: port is already allocated", "host port 8080 of 127.0.0.1"),
    (ENDPOINT + "Bind for 0.0.0.0:80 failed: port is already allocated", "host port 80 of 0.0.0.0"),
    (ENDPOINT + "Bind for :::8080 failed: port is already allocated", "host port 8080 of ::"),
    (ENDPOINT + "Bind for fe80::1:8080 failed: port is already allocated", "host port 8080 of fe80::1"),
    (
        PROXY + f"tcp4 0.0.0.0:49311: bind: {IN_USE}",
        "host port 49311 of 0.0.0.0",
    ),
    (PROXY + f"tcp6 [::]:50237: bind: {IN_USE}", "host port 50237 of ::"),
    (
        PROXY + f"udp4 127.0.0.1:53: bind: {IN_USE}",
        "host port 53 of 127.0.0.1",
    ),
    # 28 and 29.
    (
        BIND + f"for 127.0.0.1:80:172.18.0.2:8080/tcp: {IN_USE}",
        "host port 80 of 127.0.0.1",
    ),
    (BIND + f"for [::1]:80:[fd00::2]:8080/tcp: {IN_USE}", "host port 80 of ::1"),
    (BIND + f"127.0.0.1:7148/tcp: {IN_USE}", "host port 7148 of 127.0.0.1"),
    (BIND + f"[::]:7148/udp: {IN_USE}", "host port 7148 of ::"),
    (ENDPOINT + "Bind for [::]:7148 failed: port is already allocated", "host port 7148 of ::"),
    # Podman, with its own ports, rootlessport and pasta.
    (f"cannot listen on the TCP port: listen tcp4 :8080: bind: {IN_USE}", "host port 8080"),
    (f"rootlessport listen tcp 0.0.0.0:8080: bind: {IN_USE}", "host port 8080 of 0.0.0.0"),
    ("pasta failed with exit code 1:\nFailed to bind port 8080 (Address already in use)", "host port 8080"),
    # Others.
    (f"some engine: {IN_USE}", "a host port of the bot"),
]


@pytest.mark.parametrize(("text", "port"), TAKEN)
def test_a_port_in_use_begins_with_the_port_in_words_and_ends_with_the_engines_text(text: str, port: str) -> None:
    error = start_error(EngineRejectedError(500, text), BOT)
    assert PortInUseError is type(error)
    assert f"{port} is in use; the engine could not start the container: {text}" == str(error)


@pytest.mark.timeout(30)
def test_a_text_with_a_callers_brackets_is_looked_through_in_one_pass() -> None:
    """The engine repeats a command, which may be 128 KiB long."""
    text = f'runc create failed: exec: "address already in use {"[" * 131_048}": file name too long'
    assert "a host port of the bot is in use" in str(start_error(EngineRejectedError(500, text), BOT))


def test_a_dead_container_cannot_be_started_whatever_the_status() -> None:
    """A restart's status is 500: the engine wraps the error of the start in it."""
    text = "container is marked for removal and cannot be started"
    for status, message in ((409, text), (500, f"Cannot restart container {BOT}: {text}")):
        assert InvalidStateError is type(start_error(EngineRejectedError(status, message), BOT))


@pytest.mark.parametrize(
    "text",
    [
        "cannot start a paused container, try unpause instead",
        "container is marked for removal and cannot be started",
        "port is already allocated",
    ],
)
def test_a_conflict_at_a_start_is_a_wrong_state_whatever_its_text(text: str) -> None:
    error = start_error(EngineRejectedError(409, text), BOT)
    assert InvalidStateError is type(error)
    assert text in str(error)


@pytest.mark.parametrize(
    ("table", "texts"),
    [(START_PHRASES, STARTS), (DISK_PHRASES, STARTS)],
    ids=["start", "disk of a start"],
)
def test_every_phrase_relied_on_is_in_an_engines_text_above(table: list, texts: list) -> None:
    for phrase, cls in table:
        assert any(all(part in text.lower() for part in phrase) and cls is found for text, found in texts), phrase


@pytest.mark.parametrize("table", [START_PHRASES, DISK_PHRASES])
def test_phrases_are_lower_case_as_the_text_is_compared(table: list) -> None:
    assert all(part == part.lower() for phrase, _ in table for part in phrase)


@pytest.mark.parametrize(
    ("status", "text", "cls", "code"),
    [
        (500, "mkdir: no space left on device", CapacityExceededError, "RESOURCE_EXHAUSTED"),
        (500, "mkdir: disk quota exceeded", CapacityExceededError, "RESOURCE_EXHAUSTED"),
        (500, "driver failed", EngineUnavailableError, "UNAVAILABLE"),
        (503, "This node is not a swarm manager", EngineUnavailableError, "UNAVAILABLE"),
        (400, "client version 1.20 is too old", ContainerManagerError, "INTERNAL"),
        (404, "page not found", ContainerManagerError, "INTERNAL"),
        (409, "conflict", ContainerManagerError, "INTERNAL"),
        (418, "", ContainerManagerError, "INTERNAL"),
    ],
)
def test_an_unexpected_answer_is_the_engines_fault_from_500_on(
    status: int, text: str, cls: type[ContainerManagerError], code: str
) -> None:
    error = engine_error(EngineRejectedError(status, text), BOT)
    assert (cls, code) == (type(error), error.code)
    assert {"bot_id": BOT} == error.metadata


@pytest.mark.parametrize("what", ["secret not found: botmaker-x-1", "secrets not found: botmaker-x-1, botmaker-x-2"])
@pytest.mark.parametrize("meaning", [engine_error, create_error])
def test_a_swarms_secret_that_another_service_has_just_replaced_is_told_as_another_operation(
    meaning: Any, what: str
) -> None:
    text = f"rpc error: code = InvalidArgument desc = {what}"
    assert OperationInProgressError is type(meaning(EngineRejectedError(400, text), BOT))


@pytest.mark.parametrize("meaning", [engine_error, create_error])
def test_what_is_too_large_for_a_swarm_stays_so(meaning: Any) -> None:
    text = "rpc error: code = Unknown desc = raft: raft message is too large and can't be sent"
    error = meaning(EngineRejectedError(500, text), BOT)
    assert (InvalidStateError, {"bot_id": BOT}) == (type(error), error.metadata)


def test_an_answer_that_concerns_no_bot_names_none() -> None:
    assert {} == engine_error(EngineRejectedError(500, "x")).metadata


@pytest.mark.parametrize(
    ("status", "text", "cls"),
    [
        (400, "Minimum memory limit allowed is 6MB", InvalidConfigError),
        (400, "invalid reference format", InvalidConfigError),
        (500, "no space left on device", CapacityExceededError),
        (500, "boom", EngineUnavailableError),
        (418, "boom", ContainerManagerError),
    ],
)
def test_a_bad_request_at_create_is_the_callers(status: int, text: str, cls: type[ContainerManagerError]) -> None:
    error = create_error(EngineRejectedError(status, text), BOT)
    assert cls is type(error)
    assert text in str(error)


@pytest.mark.parametrize(
    ("status", "text", "is_conflict"),
    [
        (409, f'Conflict. The container name "/botmaker-{BOT}" is already in use by container "1f"', True),
        (500, f'container create: the container name "botmaker-{BOT}" is already in use by 1f', True),
        (500, 'container create: the container name "another" is already in use by 1f', False),
        (500, "boom", False),
    ],
)
def test_a_name_conflict_is_known_by_its_status_or_in_podmans_words(status: int, text: str, is_conflict: bool) -> None:
    assert is_conflict == is_name_conflict(EngineRejectedError(status, text), f"botmaker-{BOT}")


@pytest.mark.parametrize("prefix", ["", f"Cannot restart container {BOT}: "], ids=["start", "restart"])
@pytest.mark.parametrize("text", ENGINES_OWN)
def test_a_missing_program_of_the_engine_is_not_taken_for_the_bots_command(text: str, prefix: str) -> None:
    error = start_error(EngineRejectedError(500, prefix + text), BOT)
    assert StartFailedError is type(error)
    assert "a program of the engine itself" in str(error)
    assert text in str(error)


def test_arguments_that_are_too_long_are_no_fault_of_the_engines_program() -> None:
    error = start_error(EngineRejectedError(400, RUNC + "exec /sbin/docker-init: argument list too long: unknown"), BOT)
    assert StartFailedError is type(error)
    assert "a program of the engine itself" not in str(error)


def test_a_bots_command_that_has_the_name_of_the_engines_program_is_the_bots() -> None:
    text = RUNC + 'exec: "docker-init": executable file not found in $PATH: unknown'
    assert CommandNotFoundError is type(start_error(EngineRejectedError(400, text), BOT))
