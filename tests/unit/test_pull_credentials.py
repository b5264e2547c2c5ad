"""Pulls send the credentials of their registry, and no other call reads a Docker configuration."""

from __future__ import annotations

import base64
import json
import os
from functools import partial
from pathlib import Path

import pytest

from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.engine.images import ImagePuller
from container_manager.engine.long_calls import LongCalls
from container_manager.engine.sdk_client import SdkClient
from container_manager.errors import ImagePullDeniedError, ImagePullFailedError
from container_manager.operation import carry_out
from tests.support.fake_engine import FakeEngine, Json, Stream, error
from tests.unit.registry_files import ENCODED, Write, written


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the file with the credentials."""
    return partial(written, tmp_path)


def test_the_file_is_read_at_each_pull(engine: FakeEngine, calls: LongCalls, write: Write) -> None:
    puller = ImagePuller(calls, write({}))
    engine.on("POST", "/images/create", Stream([]))
    expected = []
    for password in (None, "first", "second"):
        if password is not None:
            encoded = base64.b64encode(f"user:{password}".encode()).decode()
            write({"auths": {"reg.test": {"auth": encoded}}})
            expected.append({"serveraddress": "reg.test", "username": "user", "password": password})
        carry_out(puller.pull("reg.test/a:1", Deadline(60)))
    headers = [request.headers.get("X-Registry-Auth") for request in engine.seen("POST", "/images/create")]
    assert None is headers[0]
    assert expected == [json.loads(base64.urlsafe_b64decode(header)) for header in headers[1:]]


def test_a_pull_with_an_odd_file_fails_before_the_engine_is_asked(
    engine: FakeEngine, calls: LongCalls, write: Write
) -> None:
    with pytest.raises(ImagePullFailedError, match=r"image reg\.test/a:1 was not pulled: .*registries\.json") as caught:
        carry_out(ImagePuller(calls, write("{")).pull("reg.test/a:1", Deadline(60)))
    assert {"image": "reg.test/a:1"} == caught.value.metadata
    assert [] == engine.seen("POST", "/images/create")


def test_a_denied_pull_says_where_its_credentials_come_from(engine: FakeEngine, calls: LongCalls, write: Write) -> None:
    engine.on("POST", "/images/create", error(500, "unauthorized: authentication required"))
    for config, told in (
        (None, r"\(there are no credentials for reg\.test\)"),
        (write({}), r"\(.*registries\.json has no credentials for reg\.test\)"),
    ):
        with pytest.raises(ImagePullDeniedError, match=told):
            carry_out(ImagePuller(calls, config).pull("reg.test/a:1", Deadline(60)))
    config = write({"auths": {"reg.test": {"auth": ENCODED}}})
    with pytest.raises(ImagePullDeniedError, match=r"\(with the credentials for reg\.test in .*registries\.json\)"):
        carry_out(ImagePuller(calls, config).pull("reg.test/a:1", Deadline(60)))


# Each of these makes the SDK's own constructor fail, or is sent by it.
NOT_READ = [
    "null",
    '{"auths": 5}',
    '{"auths": {"reg.test": {"auth": 5}}}',
    '{"proxies": null}',
    '{"HttpHeaders": {"X-Evil": "1"}}',
    "a pipe",
]


@pytest.mark.parametrize("content", NOT_READ)
def test_no_call_to_the_engine_reads_the_users_docker_configuration(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    directory = tmp_path / ".docker"
    directory.mkdir()
    if content == "a pipe":
        os.mkfifo(directory / "config.json")
    else:
        (directory / "config.json").write_text(content)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(directory))
    engine.on("GET", "/containers/*/json", Json({"Id": "c1"}))
    engine.on("POST", "/containers/create", Json({"Id": "c1"}))
    client = EngineClient(engine.url, timeout_seconds=10)
    client.ping(Deadline(10))
    assert {"Id": "c1"} == client.inspect_container("c1", Deadline(10))
    assert "c1" == client.create_container("a", {"Image": "a", "Env": ["A=1"]})
    client.close()
    assert ["A=1"] == engine.seen("POST", "/containers/create")[0].body["Env"]
    assert "X-Evil" not in {name for request in engine.requests for name in request.headers}


@pytest.mark.parametrize("url", ["unix:///run/x.sock", "tcp://127.0.0.1:2375"])
def test_the_sdks_client_has_what_the_sdks_own_constructor_gives_it(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = pytest.importorskip("docker")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    theirs, ours = docker.APIClient(url, version="1.41"), SdkClient(url, "1.41")
    assert vars(theirs).keys() == vars(ours).keys()
    plain = {key: value for key, value in vars(theirs).items() if isinstance(value, (str, int, type(None)))}
    assert plain == {key: vars(ours)[key] for key in plain} | {"trust_env": True}
    assert list(theirs.adapters) == list(ours.adapters)
