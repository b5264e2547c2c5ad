"""The audit log of a real server: which calls it has, who made them, and how they ended."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from botmaker.container.v1 import bot_provisioner_pb2 as provisioner_pb
from botmaker.container.v1 import container_maintainer_pb2 as maintainer_pb
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.observability.audit_log import AuditLog
from container_manager.rpc import server
from container_manager_client import connect
from tests.rpc.conftest import ServeOn
from tests.support.calls import Calls, fails_with
from tests.support.certificates import Authority, server_files
from tests.support.memory_backend import MemoryBackend, MemoryBots
from tests.support.provisioning_calls import listed_secrets, put_secrets
from tests.support.waiting import wait_until

OURS = Authority()


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    """The file."""
    return tmp_path / "audit.log"


def entries(audit: Path, count: int) -> list[dict[str, Any]]:
    """The lines, once there are as many: a line is written after its call's response."""

    def read() -> list[dict[str, Any]]:
        return [json.loads(line) for line in audit.read_text().splitlines()]

    return wait_until(lambda: len(read()) >= count and read(), f"{count} lines")


@pytest.fixture
def channel(serve_on: ServeOn, unix: str, audit: Path) -> Iterator[grpc.Channel]:
    with serve_on(unix, audit_log=str(audit)) as addresses, connect(addresses[0]) as channel:
        yield channel


def test_exactly_the_calls_that_may_change_something_are_audited() -> None:
    manager = ("CreateContainer", "StartContainer", "StopContainer", "RestartContainer", "RemoveContainer")
    provisioner = ("PutSecrets", "DeleteSecrets", "ReloadSecrets", "PutFiles", "DeleteState")
    audited = {name.rpartition(".")[2] for name in server._CHANGES}
    wanted = {f"ContainerManager/{name}" for name in manager} | {f"BotProvisioner/{name}" for name in provisioner}
    assert wanted == {name for name in audited if not name.startswith("ContainerMaintainer/")}


def test_a_change_has_a_line_with_its_bot_and_its_outcome_and_a_read_has_none(
    channel: grpc.Channel, audit: Path, unix: str, bot_id: str
) -> None:
    calls = Calls(ContainerManagerStub(channel))
    calls.create(bot_id)
    calls.list()
    assert calls.status(bot_id) is not None
    with fails_with("ALREADY_EXISTS", "CONTAINER_ALREADY_EXISTS"):
        calls.create(bot_id)
    with fails_with("INVALID_ARGUMENT", "INVALID_BOT_ID"):
        calls.start("nonsense")
    metadata = (("x-request-id", "mine"),)
    ContainerManagerStub(channel).StartContainer(pb.StartContainerRequest(bot_id=bot_id), metadata=metadata)
    found = entries(audit, 4)
    told = [(each["method"].rpartition("/")[2], each["bot_id"], each["code"], each["reason"]) for each in found]
    assert [
        ("CreateContainer", bot_id, "OK", ""),
        ("CreateContainer", bot_id, "ALREADY_EXISTS", "CONTAINER_ALREADY_EXISTS"),
        ("StartContainer", "", "INVALID_ARGUMENT", "INVALID_BOT_ID"),
        ("StartContainer", bot_id, "OK", ""),
    ] == told
    assert "mine" == found[-1]["request_id"]
    assert {(unix, "", False)} == {(each["listener"], each["certificate_subject"], each["token"]) for each in found}


def test_a_log_that_hangs_holds_up_no_call(
    channel: grpc.Channel, audit: Path, bots: MemoryBots, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a network disk may: the event loop goes on."""
    hangs, write = threading.Event(), AuditLog.write

    def slow(log: AuditLog, entry: Any) -> None:
        hangs.wait(60)
        write(log, entry)

    monkeypatch.setattr(AuditLog, "write", slow)
    calls = Calls(ContainerManagerStub(channel))
    for _ in range(3):
        calls.create(bots.new(), timeout=10)
    assert "" == audit.read_text()
    hangs.set()
    assert 3 == len(entries(audit, 3))


def test_a_line_has_nothing_of_the_request_but_its_bot(channel: grpc.Channel, audit: Path, bots: MemoryBots) -> None:
    provisioner, bot_id = BotProvisionerStub(channel), bots.bare()
    put_secrets(provisioner, bot_id, NAME_OF_A_SECRET=b"the-secret-value")
    assert {"NAME_OF_A_SECRET": 16} == listed_secrets(provisioner, bot_id)
    provisioner.PutFiles(provisioner_pb.PutFilesRequest(bot_id=bot_id, files={"the-path": b"the-content"}))
    config = pb.ContainerConfig(environment={"A": "the-variable"}, command=["the-command"])
    ContainerManagerStub(channel).CreateContainer(pb.CreateContainerRequest(bot_id=bot_id, config=config))
    assert {bot_id} == {each["bot_id"] for each in entries(audit, 3)}
    assert "the-" not in audit.read_text()
    assert "NAME_OF" not in audit.read_text()


def test_a_line_of_an_action_has_its_name_if_it_is_declared_and_nothing_of_its_arguments(
    channel: grpc.Channel, audit: Path, memory: MemoryBackend, bots: MemoryBots
) -> None:
    bot_id = bots.bare()
    memory.add(bot_id, action_set="openclaw")

    def act(action: str) -> None:
        request = maintainer_pb.RunActionRequest(bot_id=bot_id, action=action, arguments=["ABCD2345"])
        list(ContainerMaintainerStub(channel).RunAction(request))

    act("pairing-approve")
    with fails_with("PERMISSION_DENIED", "ACTION_NOT_ALLOWED"):
        act("the-invented-one")
    ran, refused = entries(audit, 2)
    assert (bot_id, "pairing-approve", "OK") == (ran["bot_id"], ran["action"], ran["code"])
    assert (bot_id, "ACTION_NOT_ALLOWED") == (refused["bot_id"], refused["reason"])
    assert "ABCD2345" not in audit.read_text()
    assert "invented" not in audit.read_text()


def test_over_tls_a_line_has_the_certificates_subject_and_calls_without_the_token_have_none(
    serve_on: ServeOn, tmp_path: Path, audit: Path
) -> None:
    token, tls = tmp_path / "token", server_files(tmp_path, OURS)
    with serve_on("tcp://127.0.0.1:0", token_file=token, tls=tls, audit_log=str(audit)) as addresses:
        for given, code in (("a wrong one", "UNAUTHENTICATED"), (token.read_text().strip(), "NOT_FOUND")):
            with connect(addresses[0], token=given, tls=OURS.client()) as channel, pytest.raises(grpc.RpcError) as told:
                Calls(ContainerManagerStub(channel)).start("0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11")
            assert code == told.value.code().name
        (line,) = entries(audit, 1)
    assert (True, "CONTAINER_NOT_FOUND") == (line["token"], line["reason"])
    assert line["certificate_subject"]
    assert line["peer"].startswith("ipv4:127.0.0.1:")
    assert line["listener"].startswith("tcp://127.0.0.1:")
