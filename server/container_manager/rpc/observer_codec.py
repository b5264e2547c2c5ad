"""Between the ContainerObserver's messages and the domain's values."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from botmaker.container.v1 import container_observer_pb2 as pb
from container_manager.errors import FieldViolation, InvalidConfigError
from container_manager.logs.reader import LogOptions
from container_manager.rpc.manager_codec import duration_seconds, timestamp
from container_manager.rpc.wire import as_field
from container_manager.stats.figures import ContainerStats
from container_manager.validation import check_bot_ids
from container_manager.view.subscription import Kind, WatchEvent

DEFAULT_INTERVAL_SECONDS = 2.0
MIN_INTERVAL_SECONDS = 0.5
MAX_INTERVAL_SECONDS = 3600.0

_NANOS = 1_000_000_000
_FIELDS = pb.WatchContainersResponse.DESCRIPTOR.fields_by_name
_SNAPSHOT, _CHANGED = _FIELDS["snapshot"].number, _FIELDS["changed"].number


def bot_ids_from_proto(bot_ids: Sequence[str]) -> frozenset[str]:
    """The bots asked for; none: all. Raises :class:`InvalidBotIdError`, :class:`InvalidConfigError`."""
    check_bot_ids(bot_ids)
    return frozenset(bot_ids)


class WatchEventEncoder:
    """Makes the wire form of WatchContainersResponse. What all watchers are told of a change is encoded once."""

    def __init__(self) -> None:
        self._last: tuple[WatchEvent, bytes] | None = None

    def encode(self, told: WatchEvent) -> bytes:
        """The message of what is told."""
        # By identity: a container that changes gets a new entry.
        if self._last is not None and told.entry is self._last[0].entry and told[:2] == self._last[0][:2]:
            return self._last[1]
        message = watch_event_to_proto(told)
        self._last = (told, message)
        return message


def watch_event_to_proto(told: WatchEvent) -> bytes:
    """The wire form of a WatchContainersResponse."""
    head = pb.WatchContainersResponse(version=told.version)
    if told.entry is None:
        if told.kind is Kind.SYNCED:
            head.synced.SetInParent()
        else:
            head.resynced.SetInParent()
    elif told.kind is Kind.REMOVED:
        head.removed.bot_id = told.entry.status.bot_id
        head.removed.container_id = told.entry.status.container_id
    else:
        number = _SNAPSHOT if told.kind is Kind.SNAPSHOT else _CHANGED
        return head.SerializeToString() + as_field(number, told.entry.encoded)
    return head.SerializeToString()


def log_options_from_proto(message: pb.StreamLogsRequest) -> LogOptions:
    """What part of the log is asked for. Raises :class:`InvalidConfigError`."""
    if message.HasField("limit_bytes") and message.limit_bytes == 0:
        raise InvalidConfigError(FieldViolation("limit_bytes", "must be at least 1; leave it out for no limit"))
    return LogOptions(
        follow=message.follow,
        tail_lines=message.tail_lines if message.HasField("tail_lines") else None,
        after_ns=_time_ns("after", message.after) if message.HasField("after") else None,
        limit_bytes=message.limit_bytes if message.HasField("limit_bytes") else None,
    )


def interval_seconds_from_proto(message: pb.WatchStatsRequest) -> float:
    """Seconds between two samples. Raises :class:`InvalidConfigError`."""
    if not message.HasField("interval"):
        return DEFAULT_INTERVAL_SECONDS
    duration: Duration = message.interval
    seconds = duration_seconds("interval", duration)
    if not MIN_INTERVAL_SECONDS <= seconds <= MAX_INTERVAL_SECONDS:
        raise InvalidConfigError(
            FieldViolation("interval", f"must be {MIN_INTERVAL_SECONDS} s to {MAX_INTERVAL_SECONDS:.0f} s")
        )
    return seconds


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


def _time_ns(field: str, message: Timestamp) -> int:
    # google.protobuf.Timestamp: years 1 to 9999, nanos from 0 to below a second.
    if not (0 <= message.nanos < _NANOS and -62_135_596_800 <= message.seconds <= 253_402_300_799):
        raise InvalidConfigError(FieldViolation(field, "is not a valid google.protobuf.Timestamp"))
    return message.seconds * _NANOS + message.nanos
