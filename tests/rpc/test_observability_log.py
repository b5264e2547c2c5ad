"""Each call's id, and its line in the log."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager_client import error_info
from tests.fuzz.conversations import Call, conversation, encoded
from tests.support.calls import fails_with
from tests.support.observed_service import Serve, await_ended, await_sync, call_lines, channel_to, metrics
from tests.support.scraping import ended
from tests.support.waiting import wait_until


def test_probes_and_reflection_are_counted_and_probes_not_logged(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), serve() as looped, channel_to(looped) as channel:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        list(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request])))
        await_ended(looped, "ServerReflectionInfo", "OK")
        assert 1 == ended(metrics(looped), "Check", "OK")
        assert ["/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"] == [
            line["method"] for line in call_lines(caplog)
        ]


def test_callers_without_the_token_write_one_warning_a_minute_however_often_they_call(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def warnings() -> list[int]:
        lines = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
        refused = [line for line in lines if line["event"] == "refused calls without a valid token"]
        assert all(line["peer"].startswith("ipv4:127.0.0.1:") for line in refused)
        return [line["calls"] for line in refused]

    with (
        caplog.at_level(logging.DEBUG),
        serve("tcp://127.0.0.1:0", token_file=tmp_path / "token") as looped,
        channel_to(looped) as channel,
    ):
        start = ContainerManagerStub(channel).StartContainer
        for _ in range(5):
            with fails_with("UNAUTHENTICATED", "UNAUTHENTICATED"):
                start(pb.StartContainerRequest())
        assert [1] == warnings()
        await_ended(looped, "StartContainer", "UNAUTHENTICATED", 5)
    assert [1, 4] == warnings(), "a shutdown ends the minute"
    assert ["debug"] * 5 == [line["level"] for line in call_lines(caplog)]


def test_callers_without_the_token_that_do_not_take_their_refusal_are_neither_logged_nor_audited(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # gRPC resets the stream of a call with such a header.
    call = Call(b"/botmaker.container.v1.ContainerManager/StartContainer", b"", ((b"x-bin", b"!"),))
    audit = tmp_path / "audit.log"
    with (
        caplog.at_level(logging.DEBUG),
        serve("tcp://127.0.0.1:0", token_file=tmp_path / "token", audit_log=str(audit)) as looped,
    ):
        host, _, port = looped.server.addresses[0].removeprefix("tcp://").rpartition(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(encoded(conversation([call] * 20)))
            await_ended(looped, "StartContainer", "CANCELLED", 20)
    assert ["debug"] * 20 == [line["level"] for line in call_lines(caplog)]
    assert "" == audit.read_text()


def test_each_call_gets_an_id_of_its_own_or_keeps_its_callers(serve: Serve, bot_id: str) -> None:
    with serve() as looped, channel_to(looped) as channel:
        await_sync(looped)
        stub = ContainerManagerStub(channel)
        request = pb.GetContainerStatusRequest(bot_id=bot_id)

        def answered_id(*metadata: tuple[str, str]) -> str:
            _, call = stub.GetContainerStatus.with_call(request, metadata=metadata)
            found = [each.value for each in call.trailing_metadata() if each.key == "x-request-id"]
            (request_id,) = found
            assert isinstance(request_id, str)
            return request_id

        assert "checkout-4711" == answered_id(("x-request-id", "checkout-4711"))
        made = {answered_id(), answered_id(), answered_id(("x-request-id", "x" * 129))}
        assert 3 == len(made)


def test_an_error_comes_with_the_id_and_its_details(serve: Serve) -> None:
    metadata = (("x-request-id", "r-1"),)
    with serve() as looped, channel_to(looped) as channel:
        logs = ContainerObserverStub(channel).StreamLogs
        with pytest.raises(grpc.RpcError) as of_stream:
            next(logs(observer_pb.StreamLogsRequest(bot_id="no bot"), metadata=metadata))
        with pytest.raises(grpc.RpcError) as of_call:
            ContainerManagerStub(channel).StartContainer(pb.StartContainerRequest(bot_id="x"), metadata=metadata)
    for raised in (of_stream, of_call):
        assert ("x-request-id", "r-1") in [(each.key, each.value) for each in raised.value.trailing_metadata()]
        assert "INVALID_BOT_ID" == error_info(raised.value).reason


def test_one_line_tells_of_each_call_with_its_id_and_reads_that_end_well_are_for_debugging(
    serve: Serve, bot_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), serve() as looped, channel_to(looped) as channel:
        await_sync(looped)
        stub = ContainerManagerStub(channel)
        metadata = (("x-request-id", "r-1"),)
        stub.GetContainerStatus(pb.GetContainerStatusRequest(bot_id=bot_id), metadata=metadata)
        with pytest.raises(grpc.RpcError):
            stub.StartContainer(pb.StartContainerRequest(bot_id=bot_id), metadata=metadata)
        wait_until(lambda: call_lines(caplog), "its line", 60)
    (line,) = call_lines(caplog)
    assert line.pop("duration_ms") >= 0
    assert {
        "method": "/botmaker.container.v1.ContainerManager/StartContainer",
        "bot_id": bot_id,
        "code": "NOT_FOUND",
        "request_id": "r-1",
    } == {key: line[key] for key in line if key not in ("event", "level", "logger", "timestamp")}
