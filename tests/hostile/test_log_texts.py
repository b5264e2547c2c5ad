"""The log tells reasons and ids: no text of a caller, and none of the engine, which repeats callers' texts."""

from __future__ import annotations

import json
import re
import socket
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from botmaker.container.v1 import bot_provisioner_pb2 as provisioner_pb
from botmaker.container.v1 import container_maintainer_pb2 as maintainer_pb
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.rpc.services import SERVICES
from container_manager_client import connect
from tests.fuzz.conversations import Call, conversation, encoded
from tests.support.fake_engine import FakeEngine, Hang, Json, Raw, Stream, error
from tests.support.serving import ServerProcess, server_process
from tests.support.waiting import wait_until

MARKER = "m4rk3r"
FORGED = f"\n2026-01-01T00:00:00Z [error    ] {MARKER}"
METHODS = [method for service in SERVICES.values() for method in service.methods]
# Each RPC has a bot of its own, so that none is refused because of another.
BOT_IDS = [str(uuid.uuid4()) for _ in METHODS]
BOT_ID = BOT_IDS[0]
CONTAINER_ID = "c" * 64
LABELS = {"botmaker.managed": "true", "botmaker.bot-id": BOT_ID, "mine": FORGED}
ROW = {
    "Id": CONTAINER_ID,
    "Names": [f"/botmaker-{BOT_ID}"],
    "Image": MARKER,
    "ImageID": MARKER,
    "State": "running",
    "Status": FORGED,
    "Created": 1,
    "Ports": [],
    "Labels": LABELS,
}
ABANDONED = "an operation whose caller had gone ended with"
WILD_EVENTS = [
    MARKER,
    {MARKER: FORGED},
    {"Type": FORGED, "Action": "start", "Actor": {"ID": MARKER}},
    {"Type": "container", "Action": "start", "Actor": MARKER},
    {"Type": "container", "Action": FORGED, "Actor": {"ID": 7, "Attributes": LABELS}},
]


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    """It answers pings, and everything else with an error that has the marker in it."""
    with FakeEngine() as engine:
        for method in ("GET", "POST", "PUT", "DELETE"):
            engine.on(method, "*", error(500, FORGED))
        engine.on("GET", "/_ping", Raw(b"OK"))
        engine.on("HEAD", "/_ping", Raw(b"OK"))
        engine.on("GET", "/version", Json({"ApiVersion": "1.41", "MinAPIVersion": "1.24", "Version": "20.10"}))
        yield engine


@pytest.fixture(params=["text", "json"])
def server(request: pytest.FixtureRequest, engine: FakeEngine, session_dir: Path, tmp_path: Path) -> Iterator[Any]:
    for bot_id in BOT_IDS:
        (tmp_path / "secrets" / bot_id).mkdir(parents=True, mode=0o711)
    arguments = ["--listen", f"unix://{session_dir}/texts/s.sock", "--secrets-root", str(tmp_path / "secrets")]
    for root, mode in (("state", 0o711), ("backup", 0o700)):
        (tmp_path / root).mkdir(mode=mode)
        arguments += [f"--{root}-root", str(tmp_path / root)]
    arguments += ["--docker-host", engine.url, "--log-format", request.param, "--log-level", "debug"]
    with server_process([*arguments, "--drain-seconds", "1"], tmp_path / "log") as process:
        yield process


def logged(server: ServerProcess, *lines: str) -> str:
    """The log, once it has these lines."""
    for line in lines:
        wait_until(lambda line=line: line in server.log_text(), line)
    return server.log_text()


def reaching(bot_id: str) -> dict[str, Message]:
    """A valid request for every RPC, with the marker wherever a valid one may have it."""
    bot: dict[str, Any] = {"bot_id": bot_id}
    config = pb.ContainerConfig(image="image", command=[FORGED], environment={"A": FORGED}, labels={"mine": FORGED})
    requests: list[Message] = [
        pb.CreateContainerRequest(**bot, config=config, request_id=MARKER),
        pb.StartContainerRequest(**bot),
        pb.StopContainerRequest(**bot),
        pb.RestartContainerRequest(**bot),
        pb.RemoveContainerRequest(**bot),
        pb.GetContainerStatusRequest(**bot),
        pb.ListManagedContainersRequest(labels={"mine": FORGED}),
        observer_pb.WatchContainersRequest(bot_ids=[bot_id], labels={"mine": FORGED}),
        observer_pb.StreamLogsRequest(**bot, follow=True),
        observer_pb.WatchStatsRequest(bot_ids=[bot_id]),
        observer_pb.GetStatsRequest(bot_ids=[bot_id]),
        observer_pb.GetContainerConfigRequest(**bot),
        observer_pb.GetServerInfoRequest(),
        provisioner_pb.PutSecretsRequest(**bot, secrets={MARKER: FORGED.encode()}),
        provisioner_pb.ListSecretsRequest(**bot),
        provisioner_pb.DeleteSecretsRequest(**bot, names=[MARKER]),
        provisioner_pb.ReloadSecretsRequest(**bot),
        provisioner_pb.PutFilesRequest(**bot, files={MARKER: FORGED.encode()}),
        provisioner_pb.DeleteStateRequest(**bot),
        maintainer_pb.UpgradeContainerRequest(**bot, image=MARKER, request_id=MARKER),
        maintainer_pb.CreateBackupRequest(**bot, request_id=MARKER),
        maintainer_pb.ListBackupsRequest(**bot),
        maintainer_pb.DeleteBackupRequest(backup_id=MARKER),
        maintainer_pb.RestoreBackupRequest(**bot, backup_id=MARKER, request_id=MARKER),
        maintainer_pb.RunActionRequest(**bot, action="pairing-list", arguments=[FORGED]),
    ]
    return {request.DESCRIPTOR.name.removesuffix("Request"): request for request in requests}


def forged(make: type[Message], **valid: str) -> Message:
    """A request with the marker in every text that is not given, also in those of the messages in it."""
    request = make()
    for field in make.DESCRIPTOR.fields:
        value: Any = {field.TYPE_STRING: FORGED, field.TYPE_BYTES: FORGED.encode()}.get(field.type)
        if field.name in valid:
            value = valid[field.name]
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            text = field.message_type.fields_by_name["value"].type == field.TYPE_STRING
            value = {FORGED: FORGED if text else FORGED.encode()}
        elif field.message_type is not None and field.message_type.file.package == make.DESCRIPTOR.file.package:
            value = forged(GetMessageClass(field.message_type))
        if value is None:
            continue
        if isinstance(value, dict):
            getattr(request, field.name).update(value)
        elif field.is_repeated:
            getattr(request, field.name).append(value)
        elif isinstance(value, Message):
            getattr(request, field.name).CopyFrom(value)
        else:
            setattr(request, field.name, value)
    return request


def call_everything(server: ServerProcess) -> None:
    """Every RPC of every service, with the marker wherever a text may be; waits until the log has every call."""
    with connect(server.line.split()[-1]) as channel, ThreadPoolExecutor(3 * len(METHODS)) as pool:
        calls = [
            pool.submit(ended, channel, method, request)
            for method, bot_id in zip(METHODS, BOT_IDS, strict=True)
            for make in [GetMessageClass(method.input_type)]
            for request in (reaching(bot_id)[method.name], forged(make), forged(make, bot_id=bot_id))
        ]
        for call in calls:
            call.result()
    logged(server, *(f"/{method.containing_service.full_name}/{method.name}" for method in METHODS))


def ended(channel: grpc.Channel, method: MethodDescriptor, request: Message) -> None:
    """Make one call, and take all of its answer."""
    prepare = channel.unary_stream if method.server_streaming else channel.unary_unary
    call = prepare(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    with suppress(grpc.RpcError):
        answer = call(request, timeout=2, metadata=(("x-mine", MARKER),))
        if method.server_streaming:
            list(answer)


def test_every_rpc_has_a_request_that_reaches_what_it_does() -> None:
    assert {method.name for method in METHODS} == set(reaching(BOT_ID))


def test_an_engine_that_fails_everything_writes_nothing_into_the_log(server: ServerProcess, engine: FakeEngine) -> None:
    call_everything(server)
    engine.on("GET", "/_ping", error(500, FORGED))
    engine.on("HEAD", "/_ping", error(500, FORGED))
    text = logged(server, "cannot be followed", "not serving")
    assert MARKER not in text


def test_wild_events_and_containers_write_nothing_into_the_log(server: ServerProcess, engine: FakeEngine) -> None:
    engine.on("GET", "/containers/json", Json([ROW]))
    engine.on("GET", "/events", lambda _: Stream(_and_wait(WILD_EVENTS, engine)))
    logged(server, "is not understood and skipped")
    call_everything(server)
    text = logged(server, "cannot be inspected")
    assert MARKER not in text


def test_how_an_operation_ended_after_its_callers_deadline_is_one_line_of_reason_and_ids(
    server: ServerProcess, engine: FakeEngine
) -> None:
    """Its command and what the engine says of it have forged lines in them."""
    engine.on("GET", "/containers/*/json", Hang(error(500, FORGED)))
    with connect(server.line.split()[-1]) as channel, pytest.raises(grpc.RpcError) as raised:
        ContainerManagerStub(channel).CreateContainer(
            reaching(BOT_ID)["CreateContainer"], timeout=1, metadata=(("x-request-id", "r-4711"),)
        )
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    engine.release()
    text = logged(server, ABANDONED)
    (line,) = [line for line in text.splitlines() if ABANDONED in line]
    moment, logger = r"\d{4}(-\d\d){2}T(\d\d:){2}\d\d\.\d{6}Z", "container_manager.scheduling.operation_parts"
    if line.startswith("{"):
        parts = json.loads(line)
        assert {"event", "level", "logger", "timestamp", "request_id"} == set(parts)
        line = "{timestamp} [{level:9}] {event} [{logger}] request_id={request_id}".format(**parts)
    assert re.fullmatch(rf"{moment} \[info     \] {ABANDONED} [A-Z]+(_[A-Z]+)+ \[{logger}\] request_id=r-4711", line)
    assert MARKER not in text


def test_headers_and_paths_that_are_not_utf_8_write_one_line_a_minute_without_their_texts(
    server: ServerProcess,
) -> None:
    text = MARKER.encode() + b"\xff"
    with_header = Call(b"/botmaker.container.v1.ContainerManager/StartContainer", b"", ((b"x-mine", text),))
    with ExitStack() as stack:
        for number, call in enumerate([with_header, Call(b"/" + text, b"")] * 10):
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.connect(server.line.split()[-1].removeprefix("unix://"))
            connection.sendall(encoded(conversation([call] * 20)))
            if number >= 10:
                # Its sender does not wait for the answers. The service may never see these calls.
                connection.close()
        logged(server, "headers that are not UTF-8")
        with connect(server.line.split()[-1]) as channel, pytest.raises(grpc.RpcError):
            ContainerManagerStub(channel).StartContainer(pb.StartContainerRequest(bot_id=BOT_ID), timeout=2)
        server.terminate()
        assert 0 == server.wait()
    log = server.log_text()
    first, rest = [int(line[1]) for line in re.finditer(r"headers\W+(\d+)", log)]
    assert first == 1
    assert rest > 1
    assert MARKER not in log
    assert "Traceback" not in log


def _and_wait(messages: list[Any], engine: FakeEngine) -> Iterator[Any]:
    yield from messages
    engine._released.wait()
