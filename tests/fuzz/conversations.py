"""What a well-behaved client sends, as HTTP/2 frames; the fuzzer spoils these.

They are written by hand, not recorded, so that a seed gives the same bytes with every version of gRPC. None of the
calls changes an engine without bots: the bots that they create have no secrets directory.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 0x1, 0x1, 0x4, 0x8
BOT_ID = "0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11"
_MANAGER = "/botmaker.container.v1.ContainerManager/"
_OBSERVER = "/botmaker.container.v1.ContainerObserver/"
_REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


@dataclass(frozen=True)
class Frame:
    """One HTTP/2 frame (RFC 9113, 4.1)."""

    kind: int
    flags: int = 0
    stream: int = 0
    payload: bytes = b""
    length: int | None = None
    """The payload's length in the head, if it is to be wrong."""

    def encoded(self) -> bytes:
        """Its bytes."""
        length = len(self.payload) if self.length is None else self.length
        head = struct.pack(">I", length & 0xFFFFFF)[1:] + struct.pack(">BBI", self.kind, self.flags, self.stream)
        return head + self.payload


Conversation = tuple[Frame, ...]


@dataclass(frozen=True)
class Call:
    """One request, in gRPC's mapping to HTTP/2."""

    path: bytes
    message: bytes
    metadata: tuple[tuple[bytes, bytes], ...] = ()

    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The header list."""
        return (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", self.path),
            (b":authority", b"localhost"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
            (b"grpc-timeout", b"5S"),
            *self.metadata,
        )

    def frames(self, stream: int) -> Conversation:
        """Its frames, on this stream."""
        return (
            Frame(HEADERS, END_HEADERS, stream, literals(self.headers())),
            Frame(DATA, END_STREAM, stream, prefixed(self.message)),
        )


def prefixed(message: bytes, *, compressed: int = 0, length: int | None = None) -> bytes:
    """A message with gRPC's prefix: the compressed flag and the length."""
    return struct.pack(">BI", compressed, len(message) if length is None else length) + message


def literals(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Headers in HPACK's plainest form: literals with new names, not indexed, no Huffman code (RFC 7541, 6.2.2)."""
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in headers)


def calls() -> list[Call]:
    """A valid call of every method."""
    create = pb.CreateContainerRequest(
        bot_id=BOT_ID,
        config=pb.ContainerConfig(
            image="botmaker-test/none:1",
            ai_model="llama3.3",
            environment={"A": "1", "B": "2"},
            ports=[pb.PortBinding(container_port=80, host_port=8080, host_ip="127.0.0.1", protocol=pb.PROTOCOL_TCP)],
            extra_hosts={"host.docker.internal": "host-gateway"},
            command=["sleep", "1"],
            resources=pb.ResourceLimits(memory_bytes=64 << 20, nano_cpus=10**9, pids_limit=100),
        ),
        request_id="wish",
    )
    grace = Duration(seconds=1, nanos=500_000_000)
    logs = observer_pb.StreamLogsRequest(
        bot_id=BOT_ID, follow=True, tail_lines=10, limit_bytes=1000, max_batch_entries=5
    )
    logs.after.seconds = 1_700_000_000
    symbol = pb.DESCRIPTOR.services_by_name["ContainerManager"].full_name
    return [
        _call(f"{_MANAGER}CreateContainer", create),
        _call(f"{_MANAGER}StartContainer", pb.StartContainerRequest(bot_id=BOT_ID)),
        _call(f"{_MANAGER}StopContainer", pb.StopContainerRequest(bot_id=BOT_ID, grace_period=grace)),
        _call(f"{_MANAGER}RestartContainer", pb.RestartContainerRequest(bot_id=BOT_ID, grace_period=grace)),
        _call(f"{_MANAGER}RemoveContainer", pb.RemoveContainerRequest(bot_id=BOT_ID, grace_period=grace)),
        _call(f"{_MANAGER}GetContainerStatus", pb.GetContainerStatusRequest(bot_id=BOT_ID)),
        _call(f"{_MANAGER}ListManagedContainers", pb.ListManagedContainersRequest(states=[2, 6])),
        _call(f"{_OBSERVER}WatchContainers", observer_pb.WatchContainersRequest(bot_ids=[BOT_ID])),
        _call(f"{_OBSERVER}StreamLogs", logs),
        _call(f"{_OBSERVER}GetStats", observer_pb.GetStatsRequest(bot_ids=[BOT_ID], max_age=grace)),
        _call(f"{_OBSERVER}GetContainerConfig", observer_pb.GetContainerConfigRequest(bot_id=BOT_ID)),
        _call(f"{_OBSERVER}WatchStats", observer_pb.WatchStatsRequest(bot_ids=[BOT_ID], interval=grace)),
        _call("/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest(service=symbol)),
        _call("/grpc.health.v1.Health/Watch", health_pb2.HealthCheckRequest()),
        _call(_REFLECTION, reflection_pb2.ServerReflectionRequest(list_services="")),
        _call(_REFLECTION, reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)),
        _call(
            _REFLECTION,
            reflection_pb2.ServerReflectionRequest(
                file_containing_extension=reflection_pb2.ExtensionRequest(containing_type=symbol, extension_number=7)
            ),
        ),
    ]


def conversation(asked: Sequence[Call]) -> Conversation:
    """A connection's frames: the settings, then each call on its own stream, then a ping."""
    return (
        Frame(SETTINGS, payload=struct.pack(">HIHI", 4, 2**20, 5, 2**14)),
        Frame(WINDOW_UPDATE, payload=struct.pack(">I", 2**20)),
        *(frame for number, call in enumerate(asked) for frame in call.frames(1 + 2 * number)),
        Frame(SETTINGS, ACK),
        Frame(PING, payload=b"12345678"),
    )


def with_token(call: Call, token: str) -> Call:
    """The call with the token that the TCP listeners require."""
    return replace(call, metadata=(*call.metadata, (b"authorization", f"Bearer {token}".encode())))


def encoded(frames: Conversation) -> bytes:
    """The bytes of a connection."""
    return PREFACE + b"".join(frame.encoded() for frame in frames)


def _call(path: str, message: Message) -> Call:
    return Call(path.encode(), message.SerializeToString(deterministic=True))


def _string(value: bytes) -> bytes:
    return _integer(len(value)) + value


def _integer(number: int) -> bytes:
    """An HPACK integer with a prefix of seven bits (RFC 7541, 5.1)."""
    if number < 0x7F:
        return bytes((number,))
    number -= 0x7F
    encoded = bytearray((0x7F,))
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
