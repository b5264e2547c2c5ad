"""The error messages of engines from 20.10 to 28 and of Podman, and the meaning of each."""

from __future__ import annotations

import pytest

from container_manager.engine.error_meanings import (
    DISK_PHRASES,
    PULL_PHRASES,
    START_PHRASES,
    create_error,
    engine_error,
    pull_error,
    start_error,
)
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import (
    CapacityExceededError,
    CommandNotExecutableError,
    CommandNotFoundError,
    ContainerManagerError,
    EngineUnavailableError,
    ImageNotFoundError,
    ImagePullDeniedError,
    ImagePullFailedError,
    ImageRegistryUnavailableError,
    InvalidConfigError,
    InvalidStateError,
    PortInUseError,
    SecretsUnavailableError,
    StartFailedError,
)

BOT = "0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11"
RUNC_OLD = "OCI runtime create failed: container_linux.go:380: starting container process caused: "
RUNC = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: "
    "unable to start container process: "
)
ENDPOINT = "driver failed programming external connectivity on endpoint botmaker (08bb0bd9684c): "
MISSING_MOUNT = (
    'error mounting "/srv/secrets/b" to rootfs at "/run/secrets": mount src=/srv/secrets/b: no such file or directory'
)

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
    (RUNC_OLD + 'exec: "./run.sh": permission denied: unknown', CommandNotExecutableError),
    (RUNC + 'exec: "/entrypoint.sh": permission denied: unknown', CommandNotExecutableError),
    (RUNC + "exec /entrypoint.sh: permission denied: unknown", CommandNotExecutableError),
    (RUNC + 'exec: "/data": is a directory: unknown: permission denied', CommandNotExecutableError),
    (RUNC + "exec /app: exec format error: unknown", CommandNotExecutableError),
    (RUNC + MISSING_MOUNT + ": unknown", StartFailedError),
    (RUNC + 'error mounting "/x" to rootfs at "/y": permission denied: unknown', StartFailedError),
    ('invalid mount config for type "bind": bind source path does not exist: /srv/secrets/b', SecretsUnavailableError),
    ("network bots not found", StartFailedError),
    (
        "container 4f02f2e69f3c must be in Created or Stopped state to be started: container state improper",
        InvalidStateError,
    ),
    ("mkdir /var/lib/docker/overlay2/x: no space left on device", CapacityExceededError),
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


HEAD = 'failed to do request: Head "https://reg.test/v2/a/manifests/1": '
GET = 'Get "https://reg.test/v2/": '
RESOLVE = 'failed to resolve reference "reg.test/a:1": '
PULLS = [
    (
        "pull access denied for a, repository does not exist or may require 'docker login': denied: requested access",
        ImagePullDeniedError,
    ),
    (
        RESOLVE + "pull access denied, repository does not exist or may require authorization: server message: "
        "insufficient_scope: authorization failed",
        ImagePullDeniedError,
    ),
    (RESOLVE + "failed to authorize: authorization failed", ImagePullDeniedError),
    ("unauthorized: authentication required", ImagePullDeniedError),
    (
        RESOLVE + "failed to authorize: failed to fetch oauth token: unexpected status from GET request to "
        "https://reg.test/token: 401 Unauthorized",
        ImagePullDeniedError,
    ),
    (GET + "no basic auth credentials", ImagePullDeniedError),
    ("Error response from daemon: denied: permission_denied: read_package", ImagePullDeniedError),
    (RESOLVE + "unexpected status from HEAD request to https://reg.test/v2/a: 403 Forbidden", ImagePullDeniedError),
    ("manifest for reg.test/a:1 not found: manifest unknown: manifest unknown", ImageNotFoundError),
    ("name unknown: repository name not known to registry", ImageNotFoundError),
    ("repository does not exist or may require 'docker login'", ImageNotFoundError),
    ("no matching manifest for linux/arm64/v8 in the manifest list entries", ImageNotFoundError),
    (RESOLVE + "reg.test/a:1: not found", ImageNotFoundError),
    (GET + "dial tcp 127.0.0.1:5000: connect: connection refused", ImageRegistryUnavailableError),
    (RESOLVE + HEAD + "dial tcp 127.0.0.1:5000: connect: connection refused", ImageRegistryUnavailableError),
    (GET + "dial tcp: lookup reg.test on 10.0.0.1:53: no such host", ImageRegistryUnavailableError),
    (GET + "dial tcp: lookup reg.test on 127.0.0.53:53: server misbehaving", ImageRegistryUnavailableError),
    (HEAD + "dial tcp [2001:db8::1]:443: connect: network is unreachable", ImageRegistryUnavailableError),
    (GET + "dial tcp 10.9.9.9:443: connect: no route to host", ImageRegistryUnavailableError),
    (HEAD + "dial tcp 10.9.9.9:443: i/o timeout", ImageRegistryUnavailableError),
    (GET + "net/http: TLS handshake timeout", ImageRegistryUnavailableError),
    (
        GET
        + "net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)",
        ImageRegistryUnavailableError,
    ),
    (GET + "context deadline exceeded (Client.Timeout exceeded while awaiting headers)", ImageRegistryUnavailableError),
    ("received unexpected HTTP status: 502 Bad Gateway", ImageRegistryUnavailableError),
    ("received unexpected HTTP status: 503 Service Unavailable", ImageRegistryUnavailableError),
    ("toomanyrequests: You have reached your pull rate limit.", ImageRegistryUnavailableError),
    ("failed to register layer: write /usr/lib/x: no space left on device", CapacityExceededError),
    ("received unexpected HTTP status: 500 Internal Server Error", ImagePullFailedError),
    ("filesystem layer verification failed for digest sha256:00", ImagePullFailedError),
    ("unexpected EOF", ImagePullFailedError),
    ("", ImagePullFailedError),
]


@pytest.mark.parametrize(("text", "cls"), PULLS)
def test_a_failed_pull_is_told_apart_by_the_engines_text(text: str, cls: type[ContainerManagerError]) -> None:
    error = pull_error(text, "reg.test/a:1")
    assert cls is type(error)
    assert text in str(error)
    assert {"image": "reg.test/a:1"} == error.metadata


@pytest.mark.parametrize(
    ("table", "texts"),
    [(START_PHRASES, STARTS), (PULL_PHRASES, PULLS), (DISK_PHRASES, STARTS), (DISK_PHRASES, PULLS)],
    ids=["start", "pull", "disk of a start", "disk of a pull"],
)
def test_every_phrase_relied_on_is_in_an_engines_text_above(table: list, texts: list) -> None:
    for phrase, cls in table:
        assert any(all(part in text.lower() for part in phrase) and cls is found for text, found in texts), phrase


@pytest.mark.parametrize("table", [START_PHRASES, PULL_PHRASES, DISK_PHRASES])
def test_phrases_are_lower_case_as_the_text_is_compared(table: list) -> None:
    assert all(part == part.lower() for phrase, _ in table for part in phrase)


def test_the_first_match_wins() -> None:
    """A denied pull's text ends in "does not exist", an unreachable registry's may hold "not found"."""
    assert ImagePullDeniedError is type(pull_error("pull access denied for a, repository does not exist", "a"))
    assert ImageRegistryUnavailableError is type(pull_error("lookup a: no such host: not found", "a"))
    assert CapacityExceededError is type(pull_error("manifest unknown: no space left on device", "a"))


@pytest.mark.parametrize(
    ("status", "text", "cls", "code"),
    [
        (500, "mkdir: no space left on device", CapacityExceededError, "RESOURCE_EXHAUSTED"),
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


@pytest.mark.parametrize("name", ["unauthorized", "bots/not-found", "registry:5000/toomanyrequests/denied"])
def test_an_images_own_name_says_nothing_of_its_pull(name: str) -> None:
    text = f"failed to register layer of docker.io/{name}:1: unexpected EOF"
    assert ImagePullFailedError is type(pull_error(text, f"{name}:1"))
