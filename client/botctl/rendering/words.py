"""Values as people read them: states, times, sizes, ports."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from botctl.rendering.unsafe_text import printable
from botmaker.container.v1 import container_manager_pb2 as pb

# What is imported late is for few commands. Each module of messages costs the start of all others.
if TYPE_CHECKING:
    from botmaker.container.v1 import container_maintainer_pb2 as maintainer_pb
    from botmaker.container.v1 import container_observer_pb2 as observer_pb

ABSENT = "absent"
"""The state of a bot without a container."""
SHORT_ID = 8
_DEFAULT_HOST_IP = "127.0.0.1"
_NANOS = 1_000_000_000
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400


def state_word(state: int) -> str:
    """``running`` for ``CONTAINER_STATE_RUNNING``; empty if unspecified."""
    return enum_word(pb.ContainerState.DESCRIPTOR, state)


def health_word(health: pb.HealthStatus) -> str:
    """Such as ``healthy``; empty without a health check."""
    return enum_word(pb.HealthStatus.DESCRIPTOR, health)


def reason_word(reason: pb.ExitReason) -> str:
    """Such as ``oom_killed``; empty while the process runs."""
    return enum_word(pb.ExitReason.DESCRIPTOR, reason)


def restore_word(phase: maintainer_pb.RestorePhase) -> str:
    """Such as ``waiting ready``."""
    from botmaker.container.v1.container_maintainer_pb2 import RestorePhase

    return enum_word(RestorePhase.DESCRIPTOR, phase).replace("_", " ")


def progress_text(done_bytes: int, total_bytes: int) -> str:
    """Such as ``3.2 MB of 45 MB``."""
    return f"{size_text(done_bytes)} of {size_text(total_bytes)}"


def upgrade_word(phase: maintainer_pb.UpgradePhase) -> str:
    """Such as ``backing up``."""
    from botmaker.container.v1.container_maintainer_pb2 import UpgradePhase

    return enum_word(UpgradePhase.DESCRIPTOR, phase).replace("_", " ")


def protocol_word(protocol: pb.Protocol) -> str:
    """Such as ``udp``; ``tcp`` if unspecified."""
    return enum_word(pb.Protocol.DESCRIPTOR, protocol) or "tcp"


def source_word(source: observer_pb.LogEntry.Source) -> str:
    """``stdout`` or ``stderr``."""
    from botmaker.container.v1.container_observer_pb2 import LogEntry

    return enum_word(LogEntry.Source.DESCRIPTOR, source)


def states() -> list[str]:
    """The words of all states."""
    return [word for value in pb.ContainerState.values() if (word := state_word(value))]


def state_named(word: str) -> Any:
    """The state that a word stands for."""
    return pb.ContainerState.Value(f"CONTAINER_STATE_{word.upper()}")


def time_text(time: Timestamp) -> str:
    """RFC 3339 in UTC with nine digits, so that it identifies a position in a log."""
    moment = datetime.fromtimestamp(time.seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time.nanos:09d}Z"


def span_text(seconds: float) -> str:
    """A duration in its two largest units: ``3d 4h``, ``12s``."""
    whole = max(int(seconds), 0)
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m {whole % _MINUTE}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h {whole % _HOUR // _MINUTE}m"
    return f"{whole // _DAY}d {whole % _DAY // _HOUR}h"


def since_text(time: Timestamp, now: Timestamp) -> str:
    """How long ago the time was."""
    return span_text((now.ToNanoseconds() - time.ToNanoseconds()) / _NANOS)


def now() -> Timestamp:
    """The current time."""
    moment = Timestamp()
    moment.GetCurrentTime()
    return moment


def size_text(size: float) -> str:
    """Bytes with a binary unit: ``12.3 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def port_text(port: pb.PortBinding) -> str:
    """A port as ``--port`` accepts it: ``8080:80/udp`` on 127.0.0.1, otherwise ``0.0.0.0:8080:80``."""
    host = f"[{port.host_ip}]" if ":" in port.host_ip else port.host_ip
    protocol = protocol_word(port.protocol)
    return (
        ("" if host in ("", _DEFAULT_HOST_IP) else f"{host}:")
        + f"{port.host_port}:{port.container_port}"
        + ("" if protocol == "tcp" else f"/{protocol}")
    )


def one_line(text: str) -> str:
    """The text as one line, safe to print."""
    return printable(" ".join(text.split()))


def short_ids(bot_ids: list[str]) -> dict[str, str]:
    """The shortest unique prefix of each id, at least eight characters long."""
    ordered = sorted(bot_ids)
    shorts = {}
    for index, bot_id in enumerate(ordered):
        neighbours = [*ordered[max(index - 1, 0) : index], *ordered[index + 1 : index + 2]]
        shared = max((_shared(bot_id, other) for other in neighbours if other != bot_id), default=0)
        shorts[bot_id] = bot_id[: max(SHORT_ID, shared + 1)]
    return shorts


def _shared(one: str, other: str) -> int:
    return next((index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))


def enum_word(enum: EnumDescriptor, value: int) -> str:
    """Such as ``running`` for ``CONTAINER_STATE_RUNNING``; empty if unspecified. A newer server's value is a number."""
    known = enum.values_by_number.get(value)
    if known is None:
        return str(value)
    word: str = known.name.removeprefix(enum.values_by_number[0].name.removesuffix("UNSPECIFIED"))
    return "" if value == 0 else word.lower()
