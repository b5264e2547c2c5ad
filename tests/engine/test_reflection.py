"""Conformance 17: reflection, health, and the tools that use them, buf curl and grpcurl."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.bots import Bots
from tests.support.calls import Calls
from tests.support.reflection_contract import OBSERVER, SERVICE, ReflectionContract


class TestReflection(ReflectionContract):
    """With the fixtures of the real engine."""


def curl(
    target: str, method: str, request: dict[str, object], service: str = SERVICE
) -> subprocess.CompletedProcess[str]:
    """``buf curl`` over the unix socket, with the schema from reflection."""
    buf = shutil.which("buf", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")
    assert buf is not None, "buf comes with the development requirements"
    socket = target.removeprefix("unix://")
    return subprocess.run(
        [
            *(buf, "curl", "--protocol", "grpc", "--http2-prior-knowledge", "--unix-socket", socket),
            *("--data", json.dumps(request), f"http://localhost/{service}/{method}"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_buf_curl_by_reflection_over_the_unix_socket(target: str, calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    created = curl(target, "CreateContainer", {"bot_id": bot_id, "config": {"command": ["sleep", "1000"]}})
    assert created.returncode == 0, created.stderr
    status = calls.status(bot_id)
    assert status is not None
    assert {"containerId": status.container_id} == json.loads(created.stdout)
    shown = json.loads(curl(target, "GetContainerStatus", {"bot_id": bot_id}).stdout)
    assert (bot_id, "CONTAINER_STATE_CREATED") == (shown["status"]["botId"], shown["status"]["state"])
    removed = curl(target, "RemoveContainer", {"bot_id": bot_id, "grace_period": "0s"})
    assert json.loads(removed.stdout) == {}
    assert json.loads(curl(target, "GetContainerStatus", {"bot_id": bot_id}).stdout) == {}


def test_buf_curl_streams_logs(target: str, calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    calls.run(bot_id, "sh", "-c", "echo one; echo two >&2; exec sleep 100000")
    bots.wait_for_log(bot_id, b"two")
    done = curl(target, "StreamLogs", {"bot_id": bot_id}, OBSERVER)
    assert done.returncode == 0, done.stderr
    entries = [json.loads(text)["entry"] for text in re.findall(r"\{.*?\}\s*\}", done.stdout, re.DOTALL)]
    assert {("SOURCE_STDOUT", b"one"), ("SOURCE_STDERR", b"two")} == {
        (entry["source"], base64.b64decode(entry["line"])) for entry in entries
    }


@pytest.mark.parametrize("bot_id", ["../../etc/passwd", "7C9E6679-7425-40DE-944B-E07FC1F90AE7", "a\0b", "x" * 10_240])
def test_a_mistaken_bot_id_is_told_in_words(target: str, bot_id: str) -> None:
    answer = curl(target, "StartContainer", {"bot_id": bot_id})
    assert answer.returncode != 0
    assert "must be a UUID in canonical lower-case" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_grpcurl_by_reflection_over_the_unix_socket(target: str) -> None:
    grpcurl = shutil.which("grpcurl")
    if grpcurl is None:
        pytest.skip("grpcurl is not installed")
    socket = target.removeprefix("unix://")
    done = subprocess.run(
        [grpcurl, "-plaintext", "-unix", "-authority", "localhost", socket, "list"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert SERVICE in done.stdout.splitlines()
