"""Translates between the ContainerObserver's messages and domain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from botmaker.container.v1 import container_observer_pb2 as pb
from container_manager.errors import FieldViolation, InvalidConfigError
from container_manager.logs.cursor import Position, position_of
from container_manager.logs.existing import LogOptions
from container_manager.model import ContainerDefinition, DiskUse
from container_manager.pace import Pace
from container_manager.rpc.manager_codec import config_to_proto, duration_seconds, timestamp
from container_manager.rpc.wire import as_field, field
from container_manager.stats.figures import ContainerStats
from container_manager.view.subscription import Kind, WatchEvent

DEFAULT_INTERVAL_SECONDS = 2.0
MIN_INTERVAL_SECONDS = 0.5
MAX_INTERVAL_SECONDS = 3600.0
DEFAULT_MAX_AGE_SECONDS = 5.0

_CONTAINERS_AT_ONCE = 500
# Containers that are gone are among them.
_FIELDS_KEPT = 16_384
_STEPS_PER_SECOND, _STEPS_AT_ONCE = 5_000, 5

_NANOS = 1_000_000_000
_FIELDS = pb.WatchContainersResponse.DESCRIPTOR.fields_by_name
_SNAPSHOT, _CHANGED = _FIELDS["snapshot"].number, _FIELDS["changed"].number
_CONTAINERS = pb.GetStatsResponse.DESCRIPTOR.fields_by_name["containers"].number


class WatchEventEncoder:
    """Encodes WatchContainersResponse messages. An event that goes to many watchers is encoded once."""

    def __init__(self) -> None:
        self._last: tuple[WatchEvent, bytes] | None = None

    def encode(self, event: WatchEvent) -> bytes:
        """The wire form of a WatchContainersResponse."""
        # Compared by identity: a changed container has a new entry.
        if self._last is not None and event.entry is self._last[0].entry and event[:2] == self._last[0][:2]:
            return self._last[1]
        message = watch_event_to_proto(event)
        self._last = (event, message)
        return message


def watch_event_to_proto(event: WatchEvent) -> bytes:
    """The wire form of a WatchContainersResponse."""
    head = pb.WatchContainersResponse(version=event.version)
    if event.entry is None:
        if event.kind is Kind.SYNCED:
            head.synced.SetInParent()
        else:
            head.resynced.SetInParent()
    elif event.kind is Kind.REMOVED:
        head.removed.bot_id = event.entry.status.bot_id
        head.removed.container_id = event.entry.status.container_id
    else:
        number = _SNAPSHOT if event.kind is Kind.SNAPSHOT else _CHANGED
        return head.SerializeToString() + as_field(number, event.entry.encoded)
    return head.SerializeToString()


def log_options_from_proto(message: pb.StreamLogsRequest) -> LogOptions:
    """The requested part of the log. Raises :class:`InvalidConfigError`."""
    if message.HasField("limit_bytes") and message.limit_bytes == 0:
        raise InvalidConfigError(FieldViolation("limit_bytes", "must be at least 1; leave it out for no limit"))
    if message.HasField("after") and message.after_cursor:
        raise InvalidConfigError(FieldViolation("after_cursor", "must not be set together with after"))
    return LogOptions(
        follow=message.follow,
        tail_lines=message.tail_lines if message.HasField("tail_lines") else None,
        after_ns=_time_ns("after", message.after) if message.HasField("after") else None,
        after=_position(message.after_cursor) if message.after_cursor else None,
        limit_bytes=message.limit_bytes if message.HasField("limit_bytes") else None,
    )


def interval_seconds_from_proto(message: pb.WatchStatsRequest) -> float:
    """The seconds between two samples. Raises :class:`InvalidConfigError`."""
    if not message.HasField("interval"):
        return DEFAULT_INTERVAL_SECONDS
    duration: Duration = message.interval
    seconds = duration_seconds("interval", duration)
    if not MIN_INTERVAL_SECONDS <= seconds <= MAX_INTERVAL_SECONDS:
        raise InvalidConfigError(
            FieldViolation("interval", f"must be {MIN_INTERVAL_SECONDS} s to {MAX_INTERVAL_SECONDS:.0f} s")
        )
    return seconds


def max_age_seconds_from_proto(message: pb.GetStatsRequest) -> float:
    """How old a sample may be, in seconds. Raises :class:`InvalidConfigError`."""
    if not message.HasField("max_age"):
        return DEFAULT_MAX_AGE_SECONDS
    seconds = duration_seconds("max_age", message.max_age)
    if seconds < 0:
        raise InvalidConfigError(FieldViolation("max_age", "must not be negative"))
    return seconds


class StatsResponseEncoder:
    """Encodes GetStatsResponse messages, in steps. Figures and disk use are encoded once for all callers."""

    def __init__(self) -> None:
        self._pace = Pace(_STEPS_PER_SECOND, _STEPS_AT_ONCE)
        self._disk: Mapping[str, DiskUse] = {}
        # By container id: the figures, and the field with them and the disk use.
        self._fields: dict[str, tuple[bytes, bytes]] = {}

    async def encode(self, figures: Sequence[tuple[str, bytes]], disk: Mapping[str, DiskUse]) -> bytes:
        """The wire form, from :func:`encoded_stats` of each container, and the newest measurement, by container id."""
        fields: list[bytes] = []
        for first in range(0, len(figures), _CONTAINERS_AT_ONCE):
            if len(figures) > _CONTAINERS_AT_ONCE:
                await self._pace.turn()
            if disk is not self._disk or len(self._fields) > _FIELDS_KEPT:
                self._disk, self._fields = disk, {}
            fields += [self._field(*each) for each in figures[first : first + _CONTAINERS_AT_ONCE]]
        return b"".join(fields)

    def _field(self, container_id: str, message: bytes) -> bytes:
        known = self._fields.get(container_id)
        if known is None or known[0] is not message:
            use = self._disk.get(container_id, DiskUse())
            # Appended fields merge with those before them (protobuf.dev, Encoding).
            more = pb.ContainerStats(state_bytes=use.state_bytes, layer_bytes=use.layer_bytes).SerializeToString()
            known = self._fields[container_id] = message, field(_CONTAINERS, message + more)
        return known[1]


def encoded_stats(bot_id: str, container_id: str, stats: ContainerStats) -> bytes:
    """The encoded form of :func:`stats_to_proto`, which is the same for all watchers.

    A ContainerStats of the contract has the same fields with the same numbers, and so the same form.
    """
    return stats_to_proto(bot_id, container_id, stats).SerializeToString()


def stats_to_proto(bot_id: str, container_id: str, stats: ContainerStats) -> pb.WatchStatsResponse:
    """The wire form of a sample."""
    return pb.WatchStatsResponse(
        bot_id=bot_id,
        container_id=container_id,
        cpu_percent=stats.cpu_percent,
        memory_usage_bytes=stats.memory_usage_bytes,
        memory_limit_bytes=stats.memory_limit_bytes,
        network_rx_bytes=stats.network_rx_bytes,
        network_tx_bytes=stats.network_tx_bytes,
        pids=stats.pids,
        time=timestamp(stats.time_ns),
    )


def definition_to_proto(definition: ContainerDefinition) -> pb.GetContainerConfigResponse:
    """The wire form of a container's configuration."""
    return pb.GetContainerConfigResponse(config=config_to_proto(definition.config), image_id=definition.image_id)


def _position(cursor: str) -> Position:
    try:
        return position_of(cursor)
    except ValueError as exc:
        raise InvalidConfigError(FieldViolation("after_cursor", str(exc))) from exc


def _time_ns(field: str, message: Timestamp) -> int:
    # google.protobuf.Timestamp: years 1 to 9999, nanos from 0 to less than a second.
    if not (0 <= message.nanos < _NANOS and -62_135_596_800 <= message.seconds <= 253_402_300_799):
        raise InvalidConfigError(FieldViolation(field, "is not a valid google.protobuf.Timestamp"))
    return message.seconds * _NANOS + message.nanos
