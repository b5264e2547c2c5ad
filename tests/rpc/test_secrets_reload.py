"""ReloadSecrets: what the bot's program is told, what its outcome means, and what follows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from botmaker.container.v1 import bot_provisioner_pb2 as pb
from botmaker.container.v1 import container_maintainer_pb2 as maintainer_pb
from botmaker.container.v1 import container_manager_pb2 as manager_pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.backend_provisioning import ActionResult
from container_manager.errors import EngineTimeoutError, SecretsUnavailableError, StartFailedError
from container_manager.model import ContainerState
from container_manager_client import connect
from tests.rpc.conftest import ServeLooped
from tests.support.calls import Calls, fails_with
from tests.support.memory_backend import MemoryBackend, MemoryBots
from tests.support.provisioning_calls import put_secrets
from tests.support.waiting import wait_until

COMMAND = ("timeout", "-k", "5", "75", "node", "/opt/entrypoint/secrets-reload.mjs")
Request, Response = pb.ReloadSecretsRequest, pb.ReloadSecretsResponse
RELOAD, OR_RESTART = Request.MODE_RELOAD, Request.MODE_RELOAD_OR_RESTART
FAILED = ActionResult(1, b"", b"gateway said: unauthorized\n")


@pytest.fixture
def bot_id(bots: MemoryBots, provisioner: BotProvisionerStub, calls: Calls) -> str:
    """A running bot with a token."""
    bot_id = bots.bare()
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"first", OTHER=b"x")
    calls.run(bot_id)
    return bot_id


def reload(provisioner: BotProvisionerStub, bot_id: str, mode: int = RELOAD) -> Any:
    return provisioner.ReloadSecrets(Request(bot_id=bot_id, mode=mode), timeout=60)


@pytest.mark.parametrize("mode", [Request.MODE_UNSPECIFIED, RELOAD, OR_RESTART])
def test_a_running_bot_reloads_and_what_is_confirmed_is_named(
    provisioner: BotProvisionerStub, memory: MemoryBackend, calls: Calls, bot_id: str, mode: int
) -> None:
    before = calls.status(bot_id)
    response = reload(provisioner, bot_id, mode)
    assert (Response.OUTCOME_RELOADED, ["GATEWAY_TOKEN"]) == (response.outcome, list(response.confirmed))
    assert before == calls.status(bot_id), "it runs on"
    ((_, command, stdin),) = memory.actions.runs
    assert (COMMAND, b"") == (command, stdin)


def test_the_program_gets_the_token_that_the_process_has_loaded_on_its_standard_input_alone(
    provisioner: BotProvisionerStub, memory: MemoryBackend, bot_id: str
) -> None:
    put_secrets(provisioner, bot_id, OTHER=b"y")
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"second")
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"third")
    reload(provisioner, bot_id)
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"fourth")
    reload(provisioner, bot_id)
    reload(provisioner, bot_id)
    assert [b"first", b"third", b""] == [stdin for _, _, stdin in memory.actions.runs]
    assert {COMMAND} == {command for _, command, _ in memory.actions.runs}


@pytest.mark.parametrize("how", ["delete", "replace all"])
def test_a_token_that_is_removed_before_a_new_one_is_written_is_kept_too(
    provisioner: BotProvisionerStub, memory: MemoryBackend, bot_id: str, how: str
) -> None:
    if how == "delete":
        provisioner.DeleteSecrets(pb.DeleteSecretsRequest(bot_id=bot_id, names=["GATEWAY_TOKEN"]))
    else:
        provisioner.PutSecrets(pb.PutSecretsRequest(bot_id=bot_id, secrets={"OTHER": b"y"}, replace_all=True))
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"second")
    reload(provisioner, bot_id)
    assert [b"first"] == [stdin for _, _, stdin in memory.actions.runs]


@pytest.mark.parametrize("how", ["put", "delete", "replace all"])
def test_a_token_stays_as_it_is_while_nobody_knows_which_process_has_loaded_it(
    provisioner: BotProvisionerStub, memory: MemoryBackend, bots: MemoryBots, bot_id: str, how: str
) -> None:
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"second")
    before, kept = dict(memory.secrets.of_bots[bot_id]), dict(memory.secrets.kept)
    memory.script("get_container_status", EngineTimeoutError("the engine did not answer in time"))
    with fails_with("DEADLINE_EXCEEDED", "ENGINE_TIMEOUT"):
        if how == "put":
            put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"third")
        elif how == "delete":
            provisioner.DeleteSecrets(pb.DeleteSecretsRequest(bot_id=bot_id, names=["GATEWAY_TOKEN"]))
        else:
            provisioner.PutSecrets(pb.PutSecretsRequest(bot_id=bot_id, secrets={"OTHER": b"y"}, replace_all=True))
    assert (before, kept) == (memory.secrets.of_bots[bot_id], memory.secrets.kept)
    put_secrets(provisioner, bot_id, OTHER=b"needs no engine")
    put_secrets(provisioner, bots.bare(), GATEWAY_TOKEN=b"nor does a first one")


def test_a_process_that_was_restarted_meanwhile_has_loaded_the_new_token(
    provisioner: BotProvisionerStub, memory: MemoryBackend, calls: Calls, bot_id: str
) -> None:
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"second")
    calls.restart(bot_id)
    reload(provisioner, bot_id)
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"third")
    reload(provisioner, bot_id)
    assert [b"", b"second"] == [stdin for _, _, stdin in memory.actions.runs]


@pytest.mark.parametrize("state", [None, ContainerState.CREATED, ContainerState.EXITED, ContainerState.RESTARTING])
def test_a_bot_that_does_not_run_has_nothing_to_reload(
    provisioner: BotProvisionerStub, memory: MemoryBackend, bots: MemoryBots, state: ContainerState | None
) -> None:
    bot_id = bots.new()
    if state is not None:
        memory.add(bot_id, state)
    for mode in (RELOAD, OR_RESTART):
        assert Response.OUTCOME_NOT_RUNNING == reload(provisioner, bot_id, mode).outcome
    assert [] == memory.actions.runs


def test_a_failure_has_the_bots_own_words_without_the_token_and_restarts_nothing(
    provisioner: BotProvisionerStub, memory: MemoryBackend, calls: Calls, bot_id: str
) -> None:
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"second")
    before = calls.status(bot_id)
    memory.actions.result = ActionResult(1, b"", b"gateway said: first is no token\n")
    with fails_with("FAILED_PRECONDITION", "SECRETS_RELOAD_FAILED") as caught:
        reload(provisioner, bot_id)
    assert "the bot has not reloaded its secrets: gateway said: *** is no token" == caught[0].message
    assert bot_id == caught[0].metadata["bot_id"]
    assert before == calls.status(bot_id)
    memory.actions.result = ActionResult(0, b"{}", b"")
    assert [] == list(reload(provisioner, bot_id).confirmed)
    assert [b"first", b"first"] == [stdin for _, _, stdin in memory.actions.runs], "it is kept until it succeeds"


@pytest.mark.parametrize("exit_code", [126, 127])
def test_an_image_without_the_program_is_told_apart(
    provisioner: BotProvisionerStub, memory: MemoryBackend, bot_id: str, exit_code: int
) -> None:
    memory.actions.result = ActionResult(exit_code, b'exec: "timeout": not found', b"")
    with fails_with("FAILED_PRECONDITION", "SECRETS_RELOAD_FAILED") as caught:
        reload(provisioner, bot_id)
    assert "its image has no program for it" in caught[0].message


def test_a_restart_follows_only_where_it_is_asked_for_and_is_seen_at_once(
    provisioner: BotProvisionerStub, memory: MemoryBackend, calls: Calls, bot_id: str
) -> None:
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"second")
    memory.actions.result = FAILED
    before = calls.status(bot_id)
    response = reload(provisioner, bot_id, OR_RESTART)
    after = calls.status(bot_id)
    assert (Response.OUTCOME_RESTARTED, []) == (response.outcome, list(response.confirmed))
    assert before is not None
    assert after is not None
    assert manager_pb.CONTAINER_STATE_RUNNING == after.state
    assert before.start_time.ToNanoseconds() < after.start_time.ToNanoseconds()
    assert {} == memory.secrets.kept


def test_a_restart_that_fails_has_its_own_reason(
    provisioner: BotProvisionerStub, memory: MemoryBackend, bot_id: str
) -> None:
    memory.actions.result = FAILED
    memory.script("restart_container", StartFailedError("no start"))
    with fails_with("FAILED_PRECONDITION", "START_FAILED"):
        reload(provisioner, bot_id, OR_RESTART)


def test_a_program_that_does_not_end_in_time_is_told_and_restarts_nothing(
    provisioner: BotProvisionerStub, memory: MemoryBackend, bot_id: str
) -> None:
    memory.script("run_action", EngineTimeoutError("the program has not ended in time"))
    with fails_with("DEADLINE_EXCEEDED", "ENGINE_TIMEOUT"):
        reload(provisioner, bot_id, OR_RESTART)
    assert [] == memory.seen("restart_container")


def test_a_reload_takes_the_bots_turn(
    provisioner: BotProvisionerStub, memory: MemoryBackend, calls: Calls, bot_id: str
) -> None:
    with memory.held("run_action"):
        held = provisioner.ReloadSecrets.future(Request(bot_id=bot_id, mode=RELOAD))
        memory.await_calls("run_action")
        with fails_with("ABORTED", "OPERATION_IN_PROGRESS"):
            calls.stop(bot_id, timeout=3)
    held.result()


@pytest.mark.parametrize("verb", ["stop", "restart", "remove"])
@pytest.mark.parametrize("mode", [RELOAD, OR_RESTART])
def test_a_call_with_a_short_grace_period_does_not_wait_for_a_reload_that_hangs(  # noqa: PLR0917 - fixtures
    provisioner: BotProvisionerStub, memory: MemoryBackend, calls: Calls, bot_id: str, verb: str, mode: int
) -> None:
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"second")
    with memory.held("run_action"):
        held = provisioner.ReloadSecrets.future(Request(bot_id=bot_id, mode=mode))
        memory.await_calls("run_action")
        getattr(calls, verb)(bot_id, grace=0)
        with fails_with("ABORTED", "OPERATION_IN_PROGRESS"):
            held.result()
        # What the end of the program tells then is of no use any more.
        put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"third")
        kept = dict(memory.secrets.kept)
    wait_until(lambda: len(memory.actions.runs) == 1, "the program ends")
    assert kept == memory.secrets.kept
    assert [(f"{verb}_container", bot_id)] == memory.seen("stop_container", "restart_container", "remove_container")


def test_a_declared_reload_that_hangs_is_overtaken_too(
    maintainer: ContainerMaintainerStub, memory: MemoryBackend, calls: Calls, bot_id: str
) -> None:
    with memory.held("run_action"):
        held = maintainer.RunAction(maintainer_pb.RunActionRequest(bot_id=bot_id, action="secrets-reload"))
        memory.await_calls("run_action")
        calls.remove(bot_id, grace=0)
        with fails_with("ABORTED", "OPERATION_IN_PROGRESS"):
            list(held)


@pytest.fixture
def one_worker(serve_looped: ServeLooped, session_dir: Path) -> Iterator[grpc.Channel]:
    """A channel to a server with one worker of each kind."""
    with (
        serve_looped(f"unix://{session_dir}/reload/s.sock", workers=1) as looped,
        connect(looped.server.addresses[0]) as channel,
    ):
        yield channel


def test_actions_that_hang_hold_up_no_reload(
    one_worker: grpc.Channel, memory: MemoryBackend, bots: MemoryBots, bot_id: str
) -> None:
    other = bots.bare()
    memory.add(other, action_set="openclaw")
    with memory.held("run_action", other):
        request = maintainer_pb.RunActionRequest(bot_id=other, action="doctor")
        acting = ContainerMaintainerStub(one_worker).RunAction(request)
        memory.await_calls("run_action")
        assert Response.OUTCOME_RELOADED == reload(BotProvisionerStub(one_worker), bot_id).outcome
        acting.cancel()


def test_a_bot_that_is_stopped_while_it_reloads_stays_stopped(
    serve_looped: ServeLooped, memory: MemoryBackend, bot_id: str, session_dir: Path
) -> None:
    memory.actions.result = FAILED
    with (
        serve_looped(f"unix://{session_dir}/reload/s.sock") as looped,
        connect(looped.server.addresses[0]) as channel,
    ):
        with memory.held("run_action"):
            reloading = BotProvisionerStub(channel).ReloadSecrets.future(Request(bot_id=bot_id, mode=OR_RESTART))
            memory.await_calls("run_action")
            stopping = ContainerManagerStub(channel).StopContainer.future(
                manager_pb.StopContainerRequest(bot_id=bot_id)
            )
            wait_until(lambda: looped.server.places.changes.taken == 2, "the stop waits for its turn")
        stopping.result()
        assert Response.OUTCOME_NOT_RUNNING == reloading.result().outcome
    assert [("stop_container", bot_id)] == memory.seen("restart_container", "stop_container")


def test_a_bot_that_ends_while_it_reloads_is_not_started(
    provisioner: BotProvisionerStub, memory: MemoryBackend, bot_id: str
) -> None:
    memory.actions.result = FAILED
    with memory.held("run_action"):
        reloading = provisioner.ReloadSecrets.future(Request(bot_id=bot_id, mode=OR_RESTART))
        memory.await_calls("run_action")
        memory.change(bot_id, state=ContainerState.EXITED)
    assert Response.OUTCOME_NOT_RUNNING == reloading.result().outcome
    assert [] == memory.seen("restart_container")


def test_kept_tokens_are_not_looked_for_on_the_event_loop(
    calls: Calls, memory: MemoryBackend, bot_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their disk may be slow. What follows a stop that was ended early runs on the event loop."""
    looked: list[bool] = []

    def look(_bot_id: str) -> bool:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            looked.append(False)
        else:
            looked.append(True)
        return False

    monkeypatch.setattr(memory.secrets, "may_keep_token", look)
    container = memory.named(bot_id)
    assert container is not None
    container.stubborn = True
    with ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(calls.stop, bot_id, 60)
        memory.await_calls("stop_container")
        calls.stop(bot_id, 0)
        stopped.result(60)
    assert [False, False] == looked


def test_reloads_hold_up_no_other_bot(
    one_worker: grpc.Channel, memory: MemoryBackend, bots: MemoryBots, bot_id: str
) -> None:
    other = bots.bare()
    memory.add(other)
    with memory.held("run_action"):
        reloading = BotProvisionerStub(one_worker).ReloadSecrets.future(Request(bot_id=bot_id))
        memory.await_calls("run_action")
        ContainerManagerStub(one_worker).StopContainer(manager_pb.StopContainerRequest(bot_id=other), timeout=10)
        assert not reloading.done()


@pytest.mark.parametrize("method", ["ReloadSecrets", "RunAction"])
def test_a_reload_that_found_no_worker_is_refused_and_leaves_the_bot_to_others(
    one_worker: grpc.Channel, memory: MemoryBackend, bots: MemoryBots, bot_id: str, method: str
) -> None:
    other = bots.bare()
    memory.add(other, action_set="openclaw")
    provisioner = BotProvisionerStub(one_worker)
    with memory.held("run_action", bot_id):
        reloading = provisioner.ReloadSecrets.future(Request(bot_id=bot_id))
        memory.await_calls("run_action")
        with fails_with("RESOURCE_EXHAUSTED", "CAPACITY_EXCEEDED"):
            if method == "ReloadSecrets":
                provisioner.ReloadSecrets(Request(bot_id=other), timeout=2)
            else:
                request = maintainer_pb.RunActionRequest(bot_id=other, action="secrets-reload")
                list(ContainerMaintainerStub(one_worker).RunAction(request, timeout=2))
        ContainerManagerStub(one_worker).StopContainer(manager_pb.StopContainerRequest(bot_id=other), timeout=10)
    reloading.result()
    assert Response.OUTCOME_RELOADED == reload(provisioner, bot_id).outcome
    # By the only worker, which would have run a refused one before.
    assert 2 == len(memory.actions.runs)


def test_an_unknown_mode_is_refused(provisioner: BotProvisionerStub, memory: MemoryBackend, bot_id: str) -> None:
    with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG") as caught:
        reload(provisioner, bot_id, 3)
    assert (("mode", "3 is not a mode"),) == caught[0].field_violations
    with fails_with("INVALID_ARGUMENT", "INVALID_BOT_ID"):
        reload(provisioner, "x")
    assert [] == memory.actions.runs


@pytest.mark.parametrize("verb", ["stop", "restart", "remove"])
def test_the_kept_token_goes_with_the_process_that_has_loaded_it(
    provisioner: BotProvisionerStub, memory: MemoryBackend, calls: Calls, bot_id: str, verb: str
) -> None:
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"second")
    assert bot_id in memory.secrets.kept
    calls.start(bot_id)
    assert bot_id in memory.secrets.kept, "it runs on"
    getattr(calls, verb)(bot_id)
    assert {} == memory.secrets.kept


def test_forgetting_a_token_holds_up_no_other_call(
    provisioner: BotProvisionerStub, memory: MemoryBackend, calls: Calls, bot_id: str
) -> None:
    container = memory.named(bot_id)
    assert container is not None
    container.stubborn = True
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"second")
    with ThreadPoolExecutor(2) as pool, memory.held("forget_token"):
        stops = [pool.submit(calls.stop, bot_id, 3600)]
        memory.await_calls("stop_container")
        # It ends the other one early.
        stops.append(pool.submit(calls.stop, bot_id, 0))
        memory.await_calls("forget_token")
        assert calls.status(bot_id) is not None
    for each in stops:
        each.result()


def test_a_token_that_cannot_be_forgotten_fails_no_change(
    provisioner: BotProvisionerStub, memory: MemoryBackend, calls: Calls, bot_id: str
) -> None:
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"second")
    memory.script("forget_token", SecretsUnavailableError("the root is gone"))
    calls.remove(bot_id)
    assert calls.status(bot_id) is None
    assert [("forget_token", bot_id)] == memory.seen("forget_token")
