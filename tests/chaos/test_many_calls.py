"""Five hundred concurrent calls of all verbs over a few channels."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack

import grpc
import grpc.aio

from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager_client import connect_aio
from tests.chaos.conftest import Report
from tests.support.calls import FOREVER
from tests.support.fault_table import FaultRow
from tests.support.faulty_world import FaultyWorld
from tests.support.ledger import UNKNOWN
from tests.support.mixed_calls import VERBS
from tests.support.recorded_calls import create_request, request_of
from tests.support.scale import sizes

SEED = "20261124 many calls"
CALLS = 500
CHANNELS = 8
SHORTEST_SECONDS, LONGEST_SECONDS = 5.0, 15.0


@sizes("times", short=1, complete=10)
def test_500_calls_at_once_each_end_as_the_contract_says(world: FaultyWorld, report: Report, times: int) -> None:
    draw = random.Random(SEED)
    for _ in range(times):
        asyncio.run(_at_once(world, draw))
    # Many callers changed the same bots: each bot has one container or none.
    lost = world.settled(dict.fromkeys(world.bot_ids, UNKNOWN))
    codes = world.recorder.codes()
    assert CALLS * times == codes.total()
    assert codes["OK"] > CALLS * times / 10
    report(FaultRow(f"{CALLS} calls at once", times, codes.total(), codes, lost))


async def _at_once(world: FaultyWorld, draw: random.Random) -> None:
    async with AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(connect_aio(world.target)) for _ in range(CHANNELS)]
        stubs = [ContainerManagerStub(channel) for channel in channels]
        calls = []
        for _ in range(CALLS):
            seconds = draw.uniform(SHORTEST_SECONDS, LONGEST_SECONDS)
            calls.append(_call(world, draw.choice(stubs), draw.choice(VERBS), draw.choice(world.bot_ids), seconds))
        await asyncio.gather(*calls)


async def _call(world: FaultyWorld, stub: ContainerManagerStub, verb: str, bot_id: str, seconds: float) -> None:
    request = create_request(bot_id, *FOREVER) if verb == "CreateContainer" else request_of(verb, bot_id)
    begun = time.monotonic()
    try:
        result = await getattr(stub, verb)(request, timeout=seconds)
    except grpc.aio.AioRpcError as exc:
        result = exc
    # The caller's gRPC reports a passed deadline itself if it notices first.
    late = isinstance(result, grpc.aio.AioRpcError) and result.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    world.recorder.ended(verb, request, begun, seconds, result, allowed=late)
