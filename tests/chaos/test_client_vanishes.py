"""A client process that is killed in the middle of its call: a stop goes on, a create leaves nothing half-made."""

from __future__ import annotations

import random
import subprocess
import sys
import time

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager_client import connect
from tests.chaos.conftest import Report
from tests.support.calls import FOREVER, STUBBORN, Calls
from tests.support.fault_table import FaultRow
from tests.support.faulty_world import FaultyWorld
from tests.support.ledger import UNKNOWN
from tests.support.recorded_calls import create_request, request_of
from tests.support.scale import sizes
from tests.support.waiting import wait_until

SEED = "20261124 client vanishes"
CLIENT = """
import sys
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager_client import connect
target, verb, request = sys.argv[1:]
with connect(target) as channel:
    stub = ContainerManagerStub(channel)
    stub.ListManagedContainers(pb.ListManagedContainersRequest())
    print("calls", flush=True)
    getattr(stub, verb)(getattr(pb, f"{verb}Request").FromString(bytes.fromhex(request)))
"""


class Client:
    """A process that makes one call."""

    def __init__(self, world: FaultyWorld, verb: str, request: bytes) -> None:
        command = [sys.executable, "-c", CLIENT, world.target, verb, request.hex()]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "calls\n"

    def kill(self) -> None:
        """Kill it, whatever it does at the moment."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@sizes("times", short=3, complete=20)
def test_a_client_that_vanishes_leaves_bots_stopped_and_creates_whole(
    world: FaultyWorld, report: Report, times: int
) -> None:
    draw = random.Random(SEED)
    entries: dict[str, str | None] = {}
    with connect(world.target) as channel:
        calls = Calls(ContainerManagerStub(channel))
        stopped = world.bot_ids[-1]
        entries[stopped] = calls.run(stopped, *STUBBORN, network="none")
        world.bots.wait_for_log(stopped, b"ready")
        client = Client(world, "StopContainer", request_of("StopContainer", stopped, 1).SerializeToString())
        world.bots.wait_for_log(stopped, b"asked")
        client.kill()

        def has_exited() -> bool:
            status = calls.status(stopped)
            assert status is not None
            return status.state == pb.CONTAINER_STATE_EXITED

        wait_until(has_exited, "the stop goes on")
        for number in range(times):
            bot_id = world.bot_ids[number % (len(world.bot_ids) - 1)]
            entries[bot_id] = UNKNOWN
            client = Client(world, "CreateContainer", create_request(bot_id, *FOREVER).SerializeToString())
            time.sleep(draw.random() * 0.05)
            client.kill()
    # Each container that exists belongs to its bot and can be removed: settled() removes it and creates another.
    lost = world.settled(entries)
    report(FaultRow("client killed mid-call", times + 1, times + 1, world.recorder.codes(), lost))
