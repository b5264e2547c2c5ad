"""A failed pull whose text is in nobody's table: statuses and ends of connections count whatever the words around."""

from __future__ import annotations

from itertools import product

import pytest

from container_manager.engine.pull_errors import pull_error
from container_manager.errors import CapacityExceededError
from tests.unit.pull_wordings import DENIED, FAILED, MISSING, RETRY, Meaning

DIGEST = "sha256:" + "429e0f50" * 8
# Hosts, repositories, tags, ports and a digest that look like an answer of a registry.
REFERENCES = (
    ("reg.test", "a", "1"),
    ("docker.io", "library/bot", "503"),
    ("docker.io", "team/eof", "latest"),
    ("reset.example:5000", "a", "429"),
    ("localhost:5000", "500", "401"),
    ("denied.test:403", "team/refused", "hung-up"),
)
# What engines put around it: Docker 20.10 to 28 without and with containerd's store, containerd, Podman, a swarm.
ENVELOPES = (
    "{said}",
    'Get "https://{host}/v2/": {said}',
    'Head "https://{host}/v2/{path}/manifests/{tag}": {said}',
    "error pulling image configuration: {said}",
    f"error pulling image configuration: image config {DIGEST}: {{said}}",
    "download failed after attempts=6: {said}",
    "error from registry: {said}",
    "unknown: {said}",
    'failed to resolve reference "{host}/{path}:{tag}": {said}',
    'failed to pull and unpack image "{host}/{path}:{tag}": failed to copy: httpReadSeeker: failed open: {said}',
    f'failed to do request: Get "https://{{host}}/v2/{{path}}/blobs/{DIGEST}": {{said}}',
    f"could not fetch content descriptor {DIGEST} (application/vnd.oci.image.layer.v1.tar) from remote: {{said}}",
    "initializing source docker://{host}/{path}:{tag}: reading manifest {tag} in {host}/{path}: {said}",
    "unable to copy from source docker://{host}/{path}:{tag}: copying system image from manifest list: {said}",
    f"reading blob {DIGEST}: {{said}}",
    "rpc error: code = Unknown desc = error pulling image {host}/{path}:{tag}: {said}",
    "image {host}/{path}:{tag} could not be accessed on a registry to record its digest: {said}",
)
BY_STATUS = {401: DENIED, 403: DENIED, **dict.fromkeys((429, 500, 502, 503, 504, 521, 522), RETRY)}
WITH_A_STATUS = (
    *("got {} from the mirror", "the registry replied {}", "upstream gave up with a {}", "{}", "({})", "[{}] oh"),
    *('the mirror says "{}"', "<h1>{} Oh</h1>", "oh, {}.", "{} - oh", "error {}: try again", "oh={{{}}}"),
    *("expected 200, got {}", "wanted 200 but the edge sent {}, after 1024 bytes", "origin's answer was {}; oh"),
    *(
        "HTTP/1.1 {} Oh",
        "HTTP/2 {}",
        "http-{}",
        "HTTP_{}",
        "HTTP{}",
        "code={}",
        "status:{}",
        "err:{}",
        "oh\n{}\noh",
        "retried 3 times: {}",
    ),
    *('{{"status":{}}}', '{{"errorCode": {}, "message": "oh"}}', "http_status={}", "error_code:{}"),
    *('{{"status":{},"message":"oh"}}', '{{"code":{}, "detail": {{"size":5,"name":"repo-denied"}}}}'),
    *("giving up after 3 attempts: {}", "failed to copy layer: {}", "port 443: {}", "2 of 5 layers: {}"),
)
ENDS = (
    *("peer reset the connection", "the connection has been reset", "the stream was reset", "TCP reset", "reset"),
    *("EOF", "io: unexpected EOF.", "end of file", "unexpected end of stream", "premature end of the response"),
    *("empty reply from server", "the server sent no response", "the mirror did not respond", "it never answered"),
    *("the remote end hung up unexpectedly", "hangup", "server disconnected", "disconnected"),
    *("peer closed the connection", "the connection was unexpectedly closed", "closed by the remote host"),
    *("remote end closed connection without response", "the tunnel was cut", "the download was interrupted"),
    *("the transfer broke off", "connection aborted", "upstream went away", "broken pipe"),
    *("net::ERR_CONNECTION_RESET", "ConnectionResetError(104)", "java.io.EOFException", "io.ErrUnexpectedEOF", "EPIPE"),
    *("net::ERR_EMPTY_RESPONSE", "RST received", "short read", "truncated response"),
    *("operation timed out", "connection timed-out", "it times out", "DEADLINE_EXCEEDED", "i/o timeout"),
    *("actively refused it", "connect: refused", "REFUSED_STREAM", "the host is not there: unreachable"),
    *(
        "TLS handshake failed",
        "SSL handshake: oh",
        "SSL_ERROR_SYSCALL",
        "no such host",
        "unknown host",
        "Host not found",
    ),
    *("could not connect", "failed to connect to its port 443", "can't reach it", "unable to contact the mirror"),
)
OF_THE_IMAGE = (
    ("manifest unknown", MISSING),
    ("manifest unknown: manifest tagged by 503 is not found", MISSING),
    ("not found", MISSING),
    ("no matching manifest for linux/arm64 in the manifest list entries", MISSING),
    ("invalid reference format", FAILED),
    ("unsupported media type application/x.503", FAILED),
    ("write /var/lib/docker/tmp/503: no space left on device", CapacityExceededError),
    ("write /var/lib/docker/tmp/503: disk quota exceeded", CapacityExceededError),
    ("failed to register layer: link 503 reset: file exists", FAILED),
    ("failed to extract layer: 403 is not a directory", FAILED),
    ("failed size validation: 500 != 503: failed precondition", FAILED),
    ("filesystem layer verification failed for digest " + DIGEST, FAILED),
    ("requested access to the resource is denied (request 503)", DENIED),
    ("pull denied by admission rule 503", DENIED),
    ("Forbidden: rule 500 matched", DENIED),
    ("project 404 not allowed: access denied", DENIED),
    ("failed to register layer: link /opt/py/LICENSE.rst /opt/py2/LICENSE.rst: operation not supported", FAILED),
    ("failed to register layer: lchown /home/x 500 500: invalid argument", FAILED),
    ("json: cannot unmarshal number 404 into Go struct field .code", FAILED),
    ("manifest invalid: schemaVersion 500", FAILED),
    ("the registry returned several manifests for this platform", FAILED),
    ("no variant on the server, closest: linux/arm64", FAILED),
)
FALSE_FRIENDS = (
    *("500 bytes are missing", "503 KiB of 504 MB", "layer 429 of 503", "403/500 entries", "429 files", "took 503 ms"),
    *("waited 500 milliseconds", "byte 503 of it", "at position 429"),
    *("offset 500", "size: 503", "id=403", "id 429", "port 500", "port 5000/500", "ports 500,503", "line 401"),
    *("limit of 500", "after 503 attempts", "attempt 429", "1.503", "v503", "503rd", "HAP429", "2026-503", "x:503"),
    *(DIGEST, "mirror.test:503", "reset.example:5000", "mirror.test:443/team/eof:503", "/reset", "no-reset"),
    *("expected 1024 bytes, it has 503", '"eof"', "https://reset.example/503", "disclosed by the server"),
    "a part thereof",
)  # fmt: skip


def wrong(said: str, meaning: Meaning) -> list[str]:
    """In which envelopes, and of which images, the text has another meaning."""
    found = []
    # What the request for a token does not find is not the image.
    envelopes = [each for each in ENVELOPES if meaning is not MISSING or not each.endswith('": {said}')]
    for envelope, (host, path, tag) in product(envelopes, REFERENCES):
        name = f"{path.removeprefix('library/')}:{tag}" if host == "docker.io" else f"{host}/{path}:{tag}"
        text = envelope.format(host=host, path=path, tag=tag, said=said)
        if type(pull_error(text, name, 500)) is not meaning:
            found.append(f"{name}: {text}")
    return found


@pytest.mark.parametrize("wording", WITH_A_STATUS)
def test_a_status_counts_in_any_wording_of_any_engine(wording: str) -> None:
    assert [] == [each for status, meaning in BY_STATUS.items() for each in wrong(wording.format(status), meaning)]


@pytest.mark.parametrize("words", ENDS)
def test_the_end_of_a_connection_is_retryable_in_any_wording_of_any_engine(words: str) -> None:
    assert [] == wrong(words, RETRY) + wrong(words.upper(), RETRY)


@pytest.mark.parametrize(("words", "meaning"), OF_THE_IMAGE)
def test_what_is_said_of_the_image_keeps_its_meaning(words: str, meaning: Meaning) -> None:
    assert [] == wrong(words, meaning)


@pytest.mark.parametrize("words", FALSE_FRIENDS)
def test_amounts_names_and_digests_are_no_answer(words: str) -> None:
    assert [] == wrong(words, FAILED) + wrong(f"oh: {words}", FAILED)
