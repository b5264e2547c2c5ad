"""A registry that accepts connections and never answers, while other bots' images are there."""

from __future__ import annotations

import socket
import time

from botmaker.container.v1 import container_manager_pb2 as pb
from tests.chaos.conftest import Report
from tests.support.fault_table import FaultRow
from tests.support.faulty_world import CALL_SECONDS, FaultyWorld
from tests.support.scale import sizes

SEED = "20261129 tarpit registry"
# Longer than a call of the mix may take, so that none can wait for these.
CREATE_SECONDS = CALL_SECONDS + 10
# The workers for creates and those for other changes, 64 each. A pull that waits takes no thread.
MOST_THREADS = 128


@sizes("references", short=80, complete=400)
def test_a_registry_that_never_answers_holds_up_nobody_but_its_own_creates(
    world: FaultyWorld, report: Report, references: int
) -> None:
    most = before = world.service.threads()
    with (
        socket.create_server(("127.0.0.1", 0), backlog=4096) as tarpit,
        world.channel_stub() as stub,
        world.mix(SEED) as mix,
    ):
        image = f"127.0.0.1:{tarpit.getsockname()[1]}/bots/hangs"
        begun = time.monotonic()
        requests = [
            pb.CreateContainerRequest(bot_id=world.bots.new(), config=pb.ContainerConfig(image=f"{image}:{number}"))
            for number in range(references)
        ]
        stuck = [stub.CreateContainer.future(request, timeout=CREATE_SECONDS) for request in requests]
        for _ in range(10):
            world.awaited_done(10)
            most = max(most, world.service.threads())
        # The other calls end as if there were no such registry.
        codes = world.recorder.codes()
        assert {"OK", "NOT_FOUND", "FAILED_PRECONDITION", "ALREADY_EXISTS"} >= set(codes), codes
        for request, call in zip(requests, stuck, strict=True):
            result = call.exception()
            world.recorder.ended("CreateContainer", request, begun, CREATE_SECONDS, result)
            assert result is not None
            most = max(most, world.service.threads())
    assert most - before <= MOST_THREADS
    lost = world.settled(mix.entries, wrong=mix.wrong)
    codes = world.recorder.codes()
    report(FaultRow(f"{references} references at a tarpit registry", 1, codes.total(), codes, lost))
