"""Conformance 11 on every backend: a create that is given up while a registry does not answer leaves nothing.

A backend's test module inherits the class. Its fixtures: ``calls``; ``bots``; ``silent_registry``, the address of one
that accepts connections and never answers.
"""

from __future__ import annotations

import grpc
import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from tests.support.calls import FOREVER, Calls, fails_with
from tests.support.lifecycle_contract import SomeBots
from tests.support.waiting import wait_until


class HangingPullContract:
    """Creates of an image of that registry."""

    def test_conformance_11_a_create_cancelled_amid_a_hanging_pull_holds_no_name(
        self, calls: Calls, bots: SomeBots, silent_registry: str
    ) -> None:
        bot_id = bots.new()
        request = pb.CreateContainerRequest(
            bot_id=bot_id, config=pb.ContainerConfig(image=f"{silent_registry}/bots/hangs:1")
        )
        call = calls.stub.CreateContainer.future(request)
        # The create holds the bot once another change of the bot has to wait.
        wait_until(lambda: _is_held(calls.stub, bot_id), "the create is under way")
        call.cancel()
        calls.create(bot_id, *FOREVER, timeout=20)
        assert len(bots.containers()) == 1

    @pytest.mark.usefixtures("early_answers")
    def test_conformance_11_a_create_whose_deadline_passes_amid_a_pull_says_so_and_holds_no_name(
        self, calls: Calls, bots: SomeBots, silent_registry: str
    ) -> None:
        bot_id = bots.new()
        with fails_with("DEADLINE_EXCEEDED", "ENGINE_TIMEOUT"):
            calls.create(bot_id, image=f"{silent_registry}/bots/hangs:2", timeout=4)
        calls.create(bot_id, *FOREVER, timeout=20)
        assert len(bots.containers()) == 1


def _is_held(stub: ContainerManagerStub, bot_id: str) -> bool:
    try:
        stub.StopContainer(pb.StopContainerRequest(bot_id=bot_id), timeout=0.1)
    except grpc.RpcError:
        return True
    return False
