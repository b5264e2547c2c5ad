"""Bytes on the listener that no client of ours would send."""

from __future__ import annotations

import logging
import socket

import grpc
import pytest

from tests.support.bots import Bots
from tests.support.calls import Calls, fails_with

HALF_A_FRAME = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00"


@pytest.mark.parametrize("junk", [b"\x00\x00", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", HALF_A_FRAME])
def test_random_bytes_on_the_socket_harm_nobody(target: str, calls: Calls, junk: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(target.removeprefix("unix://"))
        client.sendall(junk)
        calls.list()
        client.shutdown(socket.SHUT_WR)
        while client.recv(4096):
            pass
    calls.list()


def test_a_message_over_4_mb_is_refused_and_the_service_goes_on(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    with pytest.raises(grpc.RpcError) as caught:
        calls.create(bot_id, "echo", "x" * (5 * 1024 * 1024))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert bots.containers() == []
    calls.list()


@pytest.mark.parametrize("junk", [b"\x0a\x02\xff\xfe", b"\x0a\xff\xff", b"\xff" * 100])
def test_bytes_that_are_no_message_are_invalid_arguments_and_fill_no_log(
    grpc_channel: grpc.Channel, caplog: pytest.LogCaptureFixture, junk: bytes
) -> None:
    call = grpc_channel.unary_unary("/botmaker.container.v1.ContainerManager/StartContainer")
    with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
        call(junk)
    # Older versions of gRPC complain to asyncio of the tests' many loops in one process (grpc/grpc#25364).
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR and record.name != "asyncio"]
    assert errors == []
