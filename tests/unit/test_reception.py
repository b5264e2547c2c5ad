"""Requests are received a few at a time, and a sender that stops half-way gives way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from typing import Any

import grpc
import pytest
import uvloop
from google.protobuf.message import DecodeError, Message

from botmaker.container.v1 import bot_provisioner_pb2 as provisioner_pb
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from container_manager.errors import CapacityExceededError, InvalidConfigError, ShuttingDownError
from container_manager.rpc.interceptors.reception import KeptRequests, ReceptionInterceptor
from container_manager.scheduling.reception import LONGEST_SECONDS, MOST_WAITING, PATIENCE_SECONDS, Reception
from tests.support.virtual_loop import now, virtual


async def at_once() -> str:
    return "request"


async def never() -> str:
    await asyncio.Event().wait()
    raise AssertionError


def after(seconds: float) -> Callable[[], Awaitable[str]]:
    async def read() -> str:
        await asyncio.sleep(seconds)
        return "request"

    return read


@virtual
async def test_a_request_that_stops_half_way_ends_by_itself() -> None:
    start = now()
    with pytest.raises(CapacityExceededError, match="did not arrive in time"):
        await Reception().receive(never)
    assert LONGEST_SECONDS == pytest.approx(now() - start)


def test_requests_wait_behind_one_that_is_overdue_already_also_on_uvloop() -> None:
    """A timer for a moment that has passed has no time there."""

    async def scenario() -> None:
        reception = Reception(at_once=1)
        stalled = asyncio.create_task(reception.receive(never))
        await asyncio.sleep(PATIENCE_SECONDS + 0.1)
        assert ["request"] * 3 == await asyncio.gather(*(reception.receive(at_once) for _ in range(3)))
        with pytest.raises(CapacityExceededError):
            await stalled

    uvloop.run(scenario())


@virtual
async def test_a_slow_request_arrives_while_nobody_waits() -> None:
    assert "request" == await Reception().receive(after(LONGEST_SECONDS - 1))


@virtual
async def test_a_hundred_senders_that_stop_half_way_hold_nobody_up_for_long() -> None:
    """They give way in order of arrival, one for each waiting call."""
    reception = Reception(at_once=16)
    start = now()
    stalled = [asyncio.create_task(reception.receive(never)) for _ in range(100)]
    await asyncio.sleep(0)
    assert "request" == await reception.receive(at_once)
    # Seven rounds of sixteen: the complete request is the 101st.
    assert now() - start <= 7 * PATIENCE_SECONDS + 0.01
    results = await asyncio.gather(*stalled, return_exceptions=True)
    assert {CapacityExceededError} == {type(result) for result in results}
    assert now() - start <= 7 * PATIENCE_SECONDS + LONGEST_SECONDS


@virtual
async def test_no_more_than_a_few_are_received_at_once_and_all_arrive() -> None:
    reception = Reception(at_once=16)
    reading = most = 0

    async def read() -> str:
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        await asyncio.sleep(0.01)
        reading -= 1
        return "request"

    results = await asyncio.gather(*(reception.receive(read) for _ in range(500)))
    assert ["request"] * 500 == results
    assert 16 == most


@virtual
async def test_thousands_of_senders_that_stop_half_way_hold_nobody_up_for_long() -> None:
    """The more wait, the sooner they give way; and of too many the last are refused at once."""
    reception = Reception(at_once=16)
    start = now()
    stalled = [asyncio.create_task(reception.receive(never)) for _ in range(16 + MOST_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(CapacityExceededError, match="too many requests"):
        await reception.receive(at_once)
    # The first sixteen have had their time.
    await asyncio.sleep(2 * PATIENCE_SECONDS)
    assert "request" == await reception.receive(at_once)
    assert now() - start < 3
    await asyncio.gather(*stalled, return_exceptions=True)


@virtual
async def test_a_holder_and_a_waiter_that_go_away_at_once_are_just_cancelled() -> None:
    reception = Reception(at_once=1)
    tasks = [asyncio.create_task(reception.receive(never)) for _ in range(3)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [asyncio.CancelledError] * 3 == [type(result) for result in results]
    assert "request" == await reception.receive(at_once)


@virtual
async def test_a_shutdown_at_the_moment_of_a_time_out_goes_on() -> None:
    reception = Reception()
    task = asyncio.create_task(reception.receive(never))
    closed = asyncio.get_running_loop().create_future()
    await asyncio.sleep(0)

    def close() -> None:
        reception.close()
        closed.set_result(None)

    asyncio.get_running_loop().call_at(now() + LONGEST_SECONDS, close)
    await closed
    (result,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(result, ShuttingDownError | CapacityExceededError)


@virtual
async def test_a_caller_that_goes_away_leaves_its_place() -> None:
    reception = Reception(at_once=1)
    reading = asyncio.create_task(reception.receive(never))
    waiting = asyncio.create_task(reception.receive(never))
    await asyncio.sleep(0)
    for task in (waiting, reading):
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    start = now()
    assert "request" == await reception.receive(at_once)
    assert start == now()


@virtual
async def test_a_shutdown_ends_what_has_not_arrived_at_once() -> None:
    reception = Reception(at_once=1)
    tasks = [asyncio.create_task(reception.receive(never)) for _ in range(3)]
    await asyncio.sleep(0)
    start = now()
    reception.close()
    results = await asyncio.gather(*tasks, reception.receive(at_once), return_exceptions=True)
    assert [ShuttingDownError] * 4 == [type(result) for result in results]
    assert start == now()


class Context:
    """A call whose requests are ``sent``."""

    def __init__(self, *sent: bytes) -> None:
        self._sent = list(sent)

    async def read(self) -> Any:
        return self._sent.pop(0) if self._sent else grpc.aio.EOF


def deserialize(data: bytes) -> bytes:
    if data == b"garbage":
        raise DecodeError
    return data


def received(handler: Any) -> Any:
    """The handler that the interceptor returns."""

    class Details:
        method = "/a.B/C"

    async def found(_: object) -> Any:
        return handler

    return asyncio.run(ReceptionInterceptor(KeptRequests()).intercept_service(found, Details()))  # type: ignore[arg-type]


@pytest.mark.parametrize("sent", [(), (b"garbage",)], ids=["none", "garbage"])
def test_a_request_that_is_no_message_is_an_invalid_argument(sent: tuple[bytes, ...]) -> None:
    async def behavior(_request: object, _context: object) -> None:
        raise AssertionError

    handler = received(grpc.unary_unary_rpc_method_handler(behavior, request_deserializer=deserialize))
    with pytest.raises(InvalidConfigError, match="not an encoded message"):
        asyncio.run(handler.stream_unary(None, Context(*sent)))


def test_any_of_many_requests_that_is_no_message_is_an_invalid_argument() -> None:
    """A reflection call has many requests: gRPC would log a traceback, and answer UNKNOWN."""
    seen: list[bytes] = []

    async def behavior(requests: Any, _context: object) -> None:
        async for request in requests:
            seen.append(request)  # noqa: PERF401 - keeps the answers before the error

    handler = received(grpc.stream_stream_rpc_method_handler(behavior, request_deserializer=deserialize))
    with pytest.raises(InvalidConfigError, match="not an encoded message"):
        asyncio.run(handler.stream_stream(None, Context(b"one", b"garbage", b"two")))
    assert [b"one"] == seen


BOT_ID = "0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11"
LISTS = pb.ContainerConfig(
    environment={f"A{number}": "" for number in range(1_000)},
    ports=[pb.PortBinding()] * 1_000,
    command=[""] * 1_000,
)


@pytest.mark.parametrize(
    ("kind", "data", "most"),
    [
        # As measured, a call keeps 2.2 MB, 108 KB, 700 KB and 48 MB.
        (observer_pb.GetStatsRequest, observer_pb.GetStatsRequest(bot_ids=[BOT_ID] * 10_000).SerializeToString(), 32),
        (observer_pb.GetStatsRequest, observer_pb.GetStatsRequest(bot_ids=[BOT_ID] * 400).SerializeToString(), 700),
        (pb.CreateContainerRequest, pb.CreateContainerRequest(config=LISTS).SerializeToString(), 100),
        (pb.ListManagedContainersRequest, b"\x1a\x00" * 2_000_000, 1),
    ],
    ids=["many ids", "ids of a small request", "lists of a field", "a key again and again"],
)
def test_requests_under_way_count_with_what_they_take_when_they_are_decoded(
    kind: type[Message], data: bytes, most: int
) -> None:
    assert 1 <= admitted(kind.FromString(data), len(data)) <= most


def test_a_request_that_alone_is_over_the_bound_is_not_told_to_try_again() -> None:
    config = pb.ContainerConfig(command=[""] * 270_000)
    request = pb.CreateContainerRequest(config=config)
    with pytest.raises(InvalidConfigError, match="too many entries"), ExitStack() as stack:
        stack.enter_context(KeptRequests().keep(request, request.ByteSize(), by_stream=False))
    del config.command[-20_000:]
    request = pb.CreateContainerRequest(config=config)
    assert 1 == admitted(request, request.ByteSize())


def test_secrets_count_with_their_bytes() -> None:
    """Few entries with large contents take hardly more than these."""
    secrets = {str(number): bytes(40_000) for number in range(64)}
    request = provisioner_pb.PutSecretsRequest(bot_id=BOT_ID, secrets=secrets)
    assert 26 == admitted(request, request.ByteSize())


def admitted(message: Message, size: int) -> int:
    """How many calls with this request may be under way."""
    kept, count = KeptRequests(), 0
    with ExitStack() as stack, suppress(CapacityExceededError):
        while count < 2_000:
            stack.enter_context(kept.keep(message, size, by_stream=False))
            count += 1
    return count
