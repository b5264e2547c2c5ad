"""StreamLogs in batches, on a real engine: the entries of the other form, several in a message."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager.config import BackendConfig, ServerConfig
from container_manager.rpc.stream_kinds import LOGS
from container_manager_client import connect
from tests.support.bots import Bots
from tests.support.calls import Calls
from tests.support.log_forms import Batched, OneByOne
from tests.support.serving import LoopedServer, looped_server
from tests.support.waiting import wait_until

ABSURD = 2**32 - 1
# Lines of both sources, empty, short and longer than a piece of the engine's.
MIXED = """
i=0
while [ $i -lt 2000 ]; do i=$((i+1)); echo out $i; echo; echo err $i >&2; done
head -c 3000000 /dev/zero | tr '\\0' x; echo; echo the end; exec sleep 100000
"""


@pytest.fixture
def looped(service_config: BackendConfig, session_dir: Path) -> Iterator[LoopedServer]:
    config = ServerConfig(service=service_config, listen=(f"unix://{session_dir}/batches/s.sock",))
    with looped_server(config) as looped:
        yield looped


@pytest.fixture
def channel(looped: LoopedServer) -> Iterator[grpc.Channel]:
    with connect(looped.server.addresses[0]) as channel:
        yield channel


@pytest.fixture
def observer(channel: grpc.Channel) -> ContainerObserverStub:
    return ContainerObserverStub(channel)


@pytest.fixture
def bot_id(channel: grpc.Channel, bots: Bots) -> str:
    """A bot that has written the mixed lines."""
    bot_id = bots.new()
    Calls(ContainerManagerStub(channel)).run(bot_id, "sh", "-c", MIXED)
    bots.wait_for_log(bot_id, b"the end")
    return bot_id


def test_batches_of_any_size_hold_the_entries_of_the_other_form_in_its_order(
    observer: ContainerObserverStub, bot_id: str
) -> None:
    expected = OneByOne().read(observer, bot_id)
    assert 6000 < len(expected)
    for most in (1, 2, 7, 1000, ABSURD):
        form = OneByOne() if most == 1 else Batched(most)
        form.max_batch_entries = most
        batches = list(form.batches(observer, bot_id))
        assert expected == [entry for batch in batches for entry in batch]
        assert (most > 1) == (max(map(len, batches)) > 1)


def test_a_reader_that_leaves_within_a_batch_leaves_nothing_open(
    looped: LoopedServer, observer: ContainerObserverStub, bot_id: str
) -> None:
    for most in (2, 1000):
        for follow in (False, True):
            stream = observer.StreamLogs(Batched(most).request(bot_id, follow=follow))
            next(stream)
            assert 1 == looped.server.streams.count(LOGS)
            stream.cancel()
            wait_until(lambda: looped.server.streams.count(LOGS) == 0, "its place is free")
