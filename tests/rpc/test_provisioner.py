"""BotProvisioner: turns, limits, and what is said of its calls."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from botmaker.container.v1 import bot_provisioner_pb2 as pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.errors import CapacityExceededError, SecretsUnavailableError, StateUnavailableError
from container_manager.model import ContainerState
from container_manager_client import connect
from tests.rpc.conftest import ServeLooped
from tests.support.calls import Calls, fails_with
from tests.support.memory_backend import MemoryBackend, MemoryBots
from tests.support.observed_service import call_lines
from tests.support.provisioning_calls import listed_secrets, put_secrets
from tests.support.waiting import wait_until

MIB = 1024 * 1024
REQUESTS: dict[str, tuple[str, Any]] = {
    "put_secrets": ("PutSecrets", lambda bot_id: pb.PutSecretsRequest(bot_id=bot_id, secrets={"A": b"a"})),
    "list_secrets": ("ListSecrets", lambda bot_id: pb.ListSecretsRequest(bot_id=bot_id)),
    "delete_secrets": ("DeleteSecrets", lambda bot_id: pb.DeleteSecretsRequest(bot_id=bot_id, names=["A"])),
    "delete_all_secrets": ("DeleteSecrets", lambda bot_id: pb.DeleteSecretsRequest(bot_id=bot_id)),
    "put_files": ("PutFiles", lambda bot_id: pb.PutFilesRequest(bot_id=bot_id, files={"a": b""})),
    "delete_state": ("DeleteState", lambda bot_id: pb.DeleteStateRequest(bot_id=bot_id)),
}


def call(stub: BotProvisionerStub, operation: str, bot_id: str, timeout: float = 60) -> Any:
    """The RPC that carries out this operation of the backend."""
    method, request = REQUESTS[operation]
    return getattr(stub, method)(request(bot_id), timeout=timeout)


def test_a_provisioning_call_takes_the_bots_turn_and_waits_for_no_other_bot(
    provisioner: BotProvisionerStub, calls: Calls, memory: MemoryBackend, bots: MemoryBots
) -> None:
    busy, other = {operation: bots.bare() for operation in REQUESTS}, bots.bare()

    def is_refused(function: Callable[..., object], *arguments: object) -> None:
        with fails_with("ABORTED", "OPERATION_IN_PROGRESS"):
            function(*arguments, timeout=3)

    with ThreadPoolExecutor(2 * len(busy)) as pool:
        with memory.held("stop_container"):
            stops = [pool.submit(calls.stop, bot_id) for bot_id in busy.values()]
            memory.await_calls("stop_container", len(busy))
            for operation in REQUESTS:
                call(provisioner, operation, other)
            list(pool.map(lambda each: is_refused(call, provisioner, *each), busy.items()))
        for stop in stops:
            stop.result()
        assert {operation: [(operation, other)] for operation in REQUESTS} == {each: memory.seen(each) for each in busy}
        with ExitStack() as stack:
            for operation, bot_id in busy.items():
                stack.enter_context(memory.held(operation, bot_id))
            held = [pool.submit(call, provisioner, *each) for each in busy.items()]
            for operation in REQUESTS:
                memory.await_calls(operation, 2)
            list(pool.map(lambda bot_id: is_refused(calls.stop, bot_id), busy.values()))
        for each in held:
            each.result()


@pytest.mark.parametrize("operation", ["put_secrets", "put_files"])
def test_a_call_whose_caller_has_gone_is_completed(
    provisioner: BotProvisionerStub, memory: MemoryBackend, bots: MemoryBots, operation: str
) -> None:
    bot_id = bots.bare()
    with memory.held(operation):
        with fails_with("DEADLINE_EXCEEDED", "ENGINE_TIMEOUT"):
            call(provisioner, operation, bot_id, timeout=3)
        memory.await_calls(operation)
    stored: dict[str, Any] = {"put_secrets": memory.secrets.of_bots, "put_files": memory.files.of_bots}[operation]
    wait_until(lambda: bot_id in stored, "it is written")


def test_provisioning_needs_no_engine_unless_a_container_could_be_there(
    provisioner: BotProvisionerStub, memory: MemoryBackend, bots: MemoryBots
) -> None:
    bot_id = bots.bare()
    memory.go_away()
    for operation in ("put_secrets", "list_secrets", "delete_secrets", "put_files"):
        call(provisioner, operation, bot_id)
    for operation in ("delete_all_secrets", "delete_state"):
        with fails_with("UNAVAILABLE", "ENGINE_UNAVAILABLE"):
            call(provisioner, operation, bot_id)
    assert bot_id in memory.secrets.of_bots
    assert bot_id in memory.files.of_bots


@pytest.mark.parametrize("operation", ["delete_all_secrets", "delete_state"])
@pytest.mark.parametrize(
    "container",
    [{"name": "botmaker-by-host-name"}, {"managed": False}, {"state": ContainerState.EXITED}],
    ids=["of another name", "foreign", "stopped"],
)
def test_directories_that_any_container_of_the_bot_may_use_are_not_removed(
    provisioner: BotProvisionerStub, memory: MemoryBackend, bots: MemoryBots, operation: str, container: dict[str, Any]
) -> None:
    bot_id = bots.bare()
    container_id = memory.add(bot_id, **container)
    with fails_with("FAILED_PRECONDITION", "INVALID_STATE") as caught:
        call(provisioner, operation, bot_id)
    assert {"bot_id": bot_id, "container_id": container_id} == caught[0].metadata
    assert [] == memory.seen(operation)


@pytest.mark.parametrize(
    "error",
    [
        SecretsUnavailableError("no secrets", bot_id="x"),
        StateUnavailableError("no state", bot_id="x"),
        CapacityExceededError("no room", bot_id="x"),
    ],
    ids=lambda error: error.reason,
)
@pytest.mark.parametrize("operation", REQUESTS)
def test_an_error_of_the_backend_reaches_the_caller(
    provisioner: BotProvisionerStub, memory: MemoryBackend, bots: MemoryBots, operation: str, error: Any
) -> None:
    memory.script(operation, error)
    with fails_with(error.code, error.reason) as caught:
        call(provisioner, operation, bots.bare())
    assert (str(error), {"bot_id": "x"}) == (caught[0].message, caught[0].metadata)


def test_the_largest_requests_are_accepted_and_one_byte_more_is_refused(
    provisioner: BotProvisionerStub, memory: MemoryBackend, bots: MemoryBots
) -> None:
    bot_id = bots.bare()
    names = [f"{number:0128}" for number in range(64)]
    secrets = {name: bytes(48 * 1024) for name in names}
    provisioner.PutSecrets(pb.PutSecretsRequest(bot_id=bot_id, secrets=secrets))
    assert dict.fromkeys(names, 48 * 1024) == listed_secrets(provisioner, bot_id)
    paths = ["/".join([f"{number:0200}"] * 5) for number in range(64)]
    provisioner.PutFiles(pb.PutFilesRequest(bot_id=bot_id, files={path: bytes(48 * 1024) for path in paths}))
    assert set(paths) == set(memory.files.of_bots[bot_id])
    with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG") as caught:
        provisioner.PutSecrets(pb.PutSecretsRequest(bot_id=bot_id, secrets={**secrets, names[0]: bytes(48 * 1024 + 1)}))
    assert "at most 3145728 bytes in all" in caught[0].message
    with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
        provisioner.PutSecrets(pb.PutSecretsRequest(bot_id=bot_id, secrets={"A": bytes(64 * 1024 + 1)}))
    with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
        provisioner.PutFiles(pb.PutFilesRequest(bot_id=bot_id, files={"a": bytes(MIB + 1)}))
    with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
        provisioner.PutSecrets(pb.PutSecretsRequest(bot_id=bot_id, secrets={f"N{n}": b"" for n in range(65)}))
    with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
        provisioner.DeleteSecrets(pb.DeleteSecretsRequest(bot_id=bot_id, names=["N"] * 65))


def test_provisioning_calls_count_as_changes(
    serve_looped: ServeLooped, memory: MemoryBackend, bots: MemoryBots, session_dir: Path
) -> None:
    with (
        memory.held("put_files"),
        serve_looped(f"unix://{session_dir}/limits/p.sock", max_concurrent_calls=1) as looped,
        connect(looped.server.addresses[0]) as channel,
    ):
        stub = BotProvisionerStub(channel)
        held = stub.PutFiles.future(pb.PutFilesRequest(bot_id=bots.bare(), files={"a": b""}))
        wait_until(lambda: looped.server.places.changes.taken == 1, "it is under way")
        with fails_with("RESOURCE_EXHAUSTED", "CAPACITY_EXCEEDED"):
            put_secrets(stub, bots.bare(), A=b"a")
        memory.script("put_files", None)
        held.cancel()


@pytest.mark.parametrize("operation", REQUESTS)
def test_a_slow_disk_delays_no_stop(
    serve_looped: ServeLooped, memory: MemoryBackend, bots: MemoryBots, session_dir: Path, operation: str
) -> None:
    running = bots.new()
    memory.add(running)
    with (
        serve_looped(f"unix://{session_dir}/slow/p.sock", workers=1) as looped,
        connect(looped.server.addresses[0]) as channel,
        ThreadPoolExecutor(1) as pool,
        memory.held(operation),
    ):
        held = pool.submit(call, BotProvisionerStub(channel), operation, bots.bare())
        memory.await_calls(operation)
        Calls(ContainerManagerStub(channel)).stop(running, timeout=5)
        assert not held.done()


def test_a_bug_shows_no_secret_to_the_caller_nor_in_the_log(
    provisioner: BotProvisionerStub, memory: MemoryBackend, bots: MemoryBots, caplog: pytest.LogCaptureFixture
) -> None:
    memory.script("put_secrets", RuntimeError("the inside"))
    with caplog.at_level(logging.DEBUG), fails_with("INTERNAL", "INTERNAL_ERROR"):
        put_secrets(provisioner, bots.bare(), TOKEN=b"the-value-of-the-secret")
    assert "the-value" not in caplog.text
    assert "the-value" not in "".join(str(record.__dict__) for record in caplog.records)


def test_a_call_is_logged_with_its_bot_and_without_names_or_paths(
    provisioner: BotProvisionerStub, bots: MemoryBots, caplog: pytest.LogCaptureFixture
) -> None:
    bot_id = bots.bare()
    with caplog.at_level(logging.INFO):
        put_secrets(provisioner, bot_id, NAME_OF_A_SECRET=b"value")
        provisioner.PutFiles(pb.PutFilesRequest(bot_id=bot_id, files={"path-of-a-file": b"value"}))
        lines = wait_until(lambda: len(call_lines(caplog)) >= 2 and call_lines(caplog), "both are logged")
    assert [("PutSecrets", bot_id), ("PutFiles", bot_id)] == [
        (line["method"].rpartition("/")[2], line["bot_id"]) for line in lines
    ]
    assert "NAME_OF" not in caplog.text
    assert "path-of" not in caplog.text
