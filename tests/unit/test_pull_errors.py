"""The meaning of what an engine reports about a failed pull: whatever its wording, and whatever names are in it."""

from __future__ import annotations

import errno
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from container_manager.engine.pull_errors import WORDS, pull_error
from container_manager.errors import ContainerManagerError, ImageRegistryUnavailableError
from tests.unit.pull_wordings import ALL, DENIED, FAILED, GET, MISSING, RETRY, Meaning


@pytest.mark.parametrize(("text", "meaning"), ALL, ids=[text[-60:] for text, _ in ALL])
def test_a_failed_pull_is_told_apart_in_every_wording(text: str, meaning: Meaning) -> None:
    error = pull_error(text, "reg.test/a:1")
    assert meaning is type(error)
    assert text in str(error)
    assert {"image": "reg.test/a:1"} == error.metadata


SOCKET_ERRORS = (
    *(
        "ECONNABORTED",
        "ECONNRESET",
        "ECONNREFUSED",
        "ENETRESET",
        "ENETDOWN",
        "ENETUNREACH",
        "EHOSTDOWN",
        "EHOSTUNREACH",
    ),
    *("EPIPE", "ESHUTDOWN", "ENOTCONN", "ETIMEDOUT", "ENONET", "ENOLINK", "ECOMM", "EADDRNOTAVAIL"),
)
SOCKET_TEXTS = [os.strerror(getattr(errno, name)).lower() for name in SOCKET_ERRORS]
SOCKET_TEXTS += ["an existing connection was forcibly closed by the remote host"]


@pytest.mark.parametrize("form", ["{}", "failed to copy: {}", "read tcp 10.0.0.2:403->10.0.0.1:443: read: {}"])
@pytest.mark.parametrize("text", SOCKET_TEXTS)
def test_every_error_of_a_broken_connection_is_retryable(form: str, text: str) -> None:
    assert RETRY is type(pull_error(form.format(text), "reg.test/a:1", 500))


@pytest.mark.parametrize("name", ["EACCES", "EPERM", "ENOBUFS", "EPROTO"])
@pytest.mark.parametrize(
    "operation", ["dial tcp 10.0.0.1:443: connect: ", "write tcp4 10.0.0.2:1->10.0.0.1:443: write: "]
)
def test_whatever_a_socket_fails_with_is_retryable_as_behind_a_firewall(operation: str, name: str) -> None:
    text = GET + operation + os.strerror(getattr(errno, name)).lower()
    assert RETRY is type(pull_error(text, "reg.test/a:1", 500))


@pytest.mark.parametrize(("pattern", "meaning"), WORDS, ids=[pattern.pattern for pattern, _ in WORDS])
def test_every_pattern_relied_on_matches_one_of_these_wordings(pattern, meaning: Meaning) -> None:  # type: ignore[no-untyped-def]
    assert any(pattern.search(text.lower()) and found is meaning for text, found in ALL)


MISLEADING = (
    "denied", "unauthorized", "forbidden", "403", "500", "404", "timeout", "eof", "toomanyrequests", "not-found",
    "denied-403", "name-unknown", "503", "unavailable", "x509", "pulled", "reset", "refused", "hung-up",
    "server-closed",
)  # fmt: skip
HOSTS = (
    "",
    "reg.test/",
    "reg.test:500/",
    "denied.test:403/",
    "127.0.0.1:5000/",
    "timeout:404/",
    "reset.example:5000/",
    "localhost/",
    "docker.io/",
)


def with_names(host: str, path: str, tag: str) -> list[tuple[str, Meaning]]:
    """What engines say about ``host`` + ``path:tag``; the meaning is that of the text without the names."""
    bare = host.removeprefix("docker.io/") + path
    full = f"{host or 'docker.io/'}{path if host or '/' in path else f'library/{path}'}"
    machine = host.rstrip("/") or "registry-1.docker.io"
    resolve = f'failed to resolve reference "{full}:{tag}": '
    head = f'Head "https://{machine}/v2/{path}/manifests/{tag}": '
    source = f"initializing source docker://{full}:{tag}: "
    return [
        (f"pull access denied for {bare}, repository does not exist or may require 'docker login': denied: no", DENIED),
        (f"manifest for {bare}:{tag} not found: manifest unknown: manifest unknown", MISSING),
        (f"repository {bare} not found: name unknown: oh", MISSING),
        (f"unknown: artifact {path}:{tag} not found", MISSING),
        (f"unknown: repository {path} not found", MISSING),
        (f"{resolve}{full}:{tag}: not found", MISSING),
        (f"{resolve}unexpected status from HEAD request to {head[6:-3]}: 403 Forbidden", DENIED),
        (f"{resolve}unexpected status from HEAD request to {head[6:-3]}: 502 Bad Gateway", RETRY),
        (f"{resolve}unexpected status from HEAD request to {head[6:-3]}: 400 Bad Request", FAILED),
        (f"{head}dial tcp: lookup {machine.split(':')[0]} on 10.0.0.1:53: no such host", RETRY),
        (f"{head}dial tcp: lookup {machine.split(':')[0]}: no such host", RETRY),
        (f"{head}x509: certificate signed by unknown authority", FAILED),
        (f"{head}http: server gave HTTP response to HTTPS client", FAILED),
        (f"{source}reading manifest {tag} in {host}{path}: manifest unknown", MISSING),
        (f"{source}reading manifest {tag} in {host}{path}: unauthorized: no", DENIED),
        (f"{source}pinging container registry {machine}: {head}EOF", RETRY),
        (f"{source}pinging container registry {machine}: http: server gave HTTP response to HTTPS client", FAILED),
        (f"failed to register layer of {full}:{tag}: oh", FAILED),
        (f'image manifest does not exist for tag or digest "{tag}"', MISSING),
        (f"unsupported media type in {full}", FAILED),
    ]


@settings(max_examples=1000)
@given(
    st.sampled_from(HOSTS),
    st.lists(st.sampled_from(MISLEADING), min_size=1, max_size=3).map("/".join),
    st.sampled_from(MISLEADING),
    st.data(),
)
def test_no_name_of_a_host_repository_or_tag_misleads(host: str, path: str, tag: str, data: st.DataObject) -> None:
    text, meaning = data.draw(st.sampled_from(with_names(host, path, tag)))
    assert meaning is type(pull_error(text, f"{host}{path}:{tag}")), text


@given(st.text(), st.text(max_size=60), st.none() | st.integers())
def test_any_text_has_a_meaning(text: str, reference: str, status: int | None) -> None:
    assert isinstance(pull_error(text, reference, status), ContainerManagerError)


@pytest.mark.parametrize("filler", ["a", "a.", "http://", "status ", '"', "/a: "])
def test_a_registrys_answer_of_any_length_is_cut_before_it_is_looked_through(filler: str) -> None:
    """Some patterns take the square of the text's length: a megabyte would stop the service for an hour."""
    error = pull_error(f"received unexpected HTTP status: 503 {filler * 1_000_000}: denied", "bot:1")
    assert isinstance(error, ImageRegistryUnavailableError)
    assert len(str(error)) < 3_000
    assert str(error).endswith(": denied")
