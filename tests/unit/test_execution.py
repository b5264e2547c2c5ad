"""How a program inside a container ended, as the engine tells it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from container_manager.engine.execution import ExecClient
from container_manager.errors import ContainerManagerError, EngineTimeoutError, EngineUnavailableError
from tests.support.fake_engine import Bytes, FakeEngine, Json

INSPECT = ("GET", "/exec/e1/json")
RUNNING, LOST = Json({"Running": True, "ExitCode": None}), Json({"Running": False, "ExitCode": None})


@pytest.fixture
def client(engine: FakeEngine) -> Iterator[ExecClient]:
    engine.on("POST", "/containers/c1/exec", Json({"Id": "e1"}, 201))
    head = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    engine.on("POST", "/exec/e1/start", Bytes([head, b"\x01\0\0\0\0\0\0\x03out"]))
    client = ExecClient(engine.url, timeout_seconds=10)
    yield client
    client.close()


def execute(client: ExecClient, seconds: float = 60.0) -> Any:
    output: list[tuple[bool, bytes]] = []
    code = client.execute(
        "c1",
        ["program"],
        stdin=b"",
        seconds=seconds,
        on_output=lambda *piece: output.append(piece),
    )
    return code, output


@pytest.mark.parametrize("code", [0, 1, 137])
def test_a_program_has_its_exit_code_although_the_engine_knows_it_a_moment_later(
    engine: FakeEngine, client: ExecClient, code: int
) -> None:
    engine.on(*INSPECT, RUNNING, Json({"Running": False, "ExitCode": code}))
    assert (code, [(False, b"out")]) == execute(client)


@pytest.mark.parametrize(
    ("answer", "error"), [(RUNNING, EngineTimeoutError), (LOST, EngineUnavailableError)], ids=["runs on", "is lost"]
)
def test_a_program_without_an_exit_code_has_not_succeeded(
    engine: FakeEngine, client: ExecClient, answer: Json, error: type[ContainerManagerError]
) -> None:
    engine.on(*INSPECT, answer)
    with pytest.raises(error):
        execute(client, seconds=1.0)
