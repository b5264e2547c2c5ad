"""Changes of a bot whose container was changed beside the service, before its notices have arrived."""

from __future__ import annotations

import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from container_manager.model import ContainerState
from tests.support.calls import FOREVER, Calls, fails_with
from tests.support.memory_backend import MemoryBackend
from tests.support.waiting import wait_until

RUNNING, EXITED = pb.CONTAINER_STATE_RUNNING, pb.CONTAINER_STATE_EXITED


@pytest.fixture(params=[ContainerState.RUNNING, ContainerState.EXITED])
def viewed(rpc: Calls, memory: MemoryBackend, bot_id: str, request: pytest.FixtureRequest) -> MemoryBackend:
    """The backend, once the service's view shows a container of the bot."""
    container_id = memory.add(bot_id, request.param)
    wait_until(lambda: [container_id] == [each.container_id for each in rpc.listed([bot_id])], "the view shows it")
    return memory


def remade(memory: MemoryBackend, bot_id: str, state: ContainerState) -> str:
    """Removes the bot's container and makes another one; its id."""
    former = memory.named(bot_id)
    assert former is not None
    memory.delete(former)
    return memory.add(bot_id, state)


@pytest.mark.parametrize(
    ("verb", "made", "shown"),
    [
        ("start", ContainerState.CREATED, RUNNING),
        ("stop", ContainerState.RUNNING, EXITED),
        ("restart", ContainerState.RUNNING, RUNNING),
    ],
)
def test_a_container_that_was_made_anew_unseen_is_acted_on_and_shown_before_the_response(
    rpc: Calls, viewed: MemoryBackend, verb: str, made: ContainerState, shown: int
) -> None:
    (bot_id,) = (each.status.bot_id for each in viewed.containers.values())
    with viewed.unnoticed():
        new = remade(viewed, bot_id, made)
        getattr(rpc, verb)(bot_id)
        status = rpc.status(bot_id)
        listed = rpc.listed([bot_id])
    assert status is not None
    assert (new, shown) == (status.container_id, status.state)
    assert status in listed


def test_a_container_that_was_made_anew_unseen_is_removed_and_shown_as_absent(
    rpc: Calls, viewed: MemoryBackend, bot_id: str
) -> None:
    with viewed.unnoticed():
        remade(viewed, bot_id, ContainerState.RUNNING)
        rpc.remove(bot_id)
        assert (None, []) == (rpc.status(bot_id), rpc.listed([bot_id]))
    assert viewed.named(bot_id) is None


def test_a_create_for_a_bot_that_has_a_container_unseen_is_refused_and_shows_it(
    rpc: Calls, memory: MemoryBackend, bot_id: str
) -> None:
    assert rpc.status(bot_id) is None
    with memory.unnoticed():
        made = memory.add(bot_id)
        with fails_with("ALREADY_EXISTS", "CONTAINER_ALREADY_EXISTS") as caught:
            rpc.create(bot_id, *FOREVER)
        status = rpc.status(bot_id)
    assert {"bot_id": bot_id, "container_id": made} == caught[0].metadata
    assert status is not None
    assert made == status.container_id
