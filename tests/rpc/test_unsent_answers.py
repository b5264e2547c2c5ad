"""Answers that callers do not take end in time, are bounded meanwhile, and keep out no others."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.rpc import taking
from container_manager.rpc.interceptors import call_limit
from container_manager.rpc.stream_kinds import REFLECTION
from container_manager.scheduling import unsent_answers
from container_manager.scheduling.unsent_answers import CALL_BYTES
from container_manager_client import connect
from tests.fuzz.conversations import Call
from tests.rpc.conftest import ServeLooped
from tests.support.calls import Calls, fails_with
from tests.support.health_calls import probe
from tests.support.silent_reader import silent_reader
from tests.support.waiting import wait_until

HEALTH = Call(b"/grpc.health.v1.Health/Check", b"")
LIST = Call(b"/botmaker.container.v1.ContainerManager/ListManagedContainers", b"")
CALLS = 50


@pytest.fixture
def listeners(session_dir: Path) -> tuple[str, str]:
    """The addresses of two listeners of one server."""
    return f"unix://{session_dir}/unsent/a.sock", f"unix://{session_dir}/unsent/b.sock"


@pytest.fixture
def bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten answers are the bound."""
    for name in ("MAX_UNSENT_BYTES", "MAX_UNSENT_HEALTH_BYTES"):
        monkeypatch.setattr(call_limit, name, 10 * CALL_BYTES)


both_kinds = pytest.mark.parametrize("call", [LIST, HEALTH], ids=["reads", "health checks"])


@both_kinds
def test_an_answer_that_is_not_taken_ends_and_nothing_of_its_call_is_left(
    serve_looped: ServeLooped, listeners: tuple[str, str], monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    monkeypatch.setattr(unsent_answers, "LONGEST_SECONDS", 1.0)

    async def tasks() -> int:
        """gRPC has two for each call."""
        return len(asyncio.all_tasks())

    with serve_looped(listeners[0]) as looped:
        before = looped.run(tasks())
        with silent_reader(looped.server.addresses[0], [call] * CALLS) as ended:
            wait_until(lambda: looped.run(tasks()) >= before + 2 * CALLS, "they are unsent")
            assert set() == ended
            # gRPC's server keeps the last call until the next one comes.
            wait_until(lambda: len(ended) >= CALLS - 1, "all are reset", 10)
            wait_until(lambda: looped.run(tasks()) < before + CALLS, "gRPC has dropped them", 10)


@pytest.mark.usefixtures("bounded")
@both_kinds
def test_unsent_answers_over_the_bound_keep_out_neither_changes_nor_other_listeners(
    serve_looped: ServeLooped, listeners: tuple[str, str], monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    monkeypatch.setattr(unsent_answers, "PATIENCE_SECONDS", 60.0)
    with (
        serve_looped(*listeners) as looped,
        silent_reader(looped.server.addresses[0], [call] * CALLS) as ended,
        connect(looped.server.addresses[0]) as same,
        connect(looped.server.addresses[1]) as other,
    ):
        wait_until(lambda: len(ended) >= CALLS - 11, "those over the bound are refused")
        with fails_with("RESOURCE_EXHAUSTED", "CAPACITY_EXCEEDED"):
            probe(same) if call is HEALTH else Calls(ContainerManagerStub(same)).list()
        for channel in (same, other):
            with fails_with("NOT_FOUND", "CONTAINER_NOT_FOUND"):
                Calls(ContainerManagerStub(channel)).start("00000000-0000-4000-8000-000000000000")
        probe(other)
        assert [] == Calls(ContainerManagerStub(other)).list()
        assert len(ended) < CALLS, "the first ones have their answers"


@pytest.mark.usefixtures("bounded")
@both_kinds
def test_unsent_answers_give_way_to_callers_that_take_theirs(
    serve_looped: ServeLooped, listeners: tuple[str, str], call: Call
) -> None:
    with (
        serve_looped(listeners[0]) as looped,
        silent_reader(looped.server.addresses[0], [call] * CALLS) as ended,
        connect(looped.server.addresses[0]) as channel,
    ):
        # Fewer than half of the bound are left alone.
        wait_until(lambda: len(ended) >= CALLS - 5, "those over half of the bound have ended")
        probe(channel)
        assert [] == Calls(ContainerManagerStub(channel)).list()


def test_reflections_that_take_no_answer_keep_their_places_for_a_moment(
    serve_looped: ServeLooped, listeners: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Long enough for all to have arrived before the first one has had its time.
    monkeypatch.setattr(taking, "TAKE_SECONDS", 15.0)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    silent = Call(b"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", request.SerializeToString())
    with (
        serve_looped(*listeners) as looped,
        silent_reader(looped.server.addresses[0], [silent] * 64),
        connect(looped.server.addresses[0]) as same,
        connect(looped.server.addresses[1]) as other,
    ):
        wait_until(lambda: looped.server.streams.count(REFLECTION) == 64, "they have all places")
        assert services_listed(other)
        with fails_with("RESOURCE_EXHAUSTED", "CAPACITY_EXCEEDED"):
            services_listed(same)
        wait_until(lambda: looped.server.streams.count(REFLECTION) == 0, "their places are free")
        assert services_listed(same)


def services_listed(channel: grpc.Channel) -> int:
    """How many services reflection lists."""
    asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    (answer,) = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(asked, timeout=60)
    return len(answer.list_services_response.service)
