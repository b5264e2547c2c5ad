from botmaker.container.v1 import container_manager_pb2 as _container_manager_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WatchContainersRequest(_message.Message):
    __slots__ = ("bot_ids", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    BOT_IDS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    bot_ids: _containers.RepeatedScalarFieldContainer[str]
    labels: _containers.ScalarMap[str, str]
    def __init__(self, bot_ids: _Optional[_Iterable[str]] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class WatchContainersResponse(_message.Message):
    __slots__ = ("version", "snapshot", "synced", "changed", "removed", "resynced")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    SYNCED_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    RESYNCED_FIELD_NUMBER: _ClassVar[int]
    version: int
    snapshot: _container_manager_pb2.ContainerStatus
    synced: Synced
    changed: _container_manager_pb2.ContainerStatus
    removed: Removed
    resynced: Resynced
    def __init__(self, version: _Optional[int] = ..., snapshot: _Optional[_Union[_container_manager_pb2.ContainerStatus, _Mapping]] = ..., synced: _Optional[_Union[Synced, _Mapping]] = ..., changed: _Optional[_Union[_container_manager_pb2.ContainerStatus, _Mapping]] = ..., removed: _Optional[_Union[Removed, _Mapping]] = ..., resynced: _Optional[_Union[Resynced, _Mapping]] = ...) -> None: ...

class Synced(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Removed(_message.Message):
    __slots__ = ("bot_id", "container_id")
    BOT_ID_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    bot_id: str
    container_id: str
    def __init__(self, bot_id: _Optional[str] = ..., container_id: _Optional[str] = ...) -> None: ...

class Resynced(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StreamLogsRequest(_message.Message):
    __slots__ = ("bot_id", "follow", "tail_lines", "after", "limit_bytes", "after_cursor", "max_batch_entries")
    BOT_ID_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    TAIL_LINES_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    AFTER_CURSOR_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    bot_id: str
    follow: bool
    tail_lines: int
    after: _timestamp_pb2.Timestamp
    limit_bytes: int
    after_cursor: str
    max_batch_entries: int
    def __init__(self, bot_id: _Optional[str] = ..., follow: bool = ..., tail_lines: _Optional[int] = ..., after: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., limit_bytes: _Optional[int] = ..., after_cursor: _Optional[str] = ..., max_batch_entries: _Optional[int] = ...) -> None: ...

class StreamLogsResponse(_message.Message):
    __slots__ = ("entry", "entries")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entry: LogEntry
    entries: _containers.RepeatedCompositeFieldContainer[LogEntry]
    def __init__(self, entry: _Optional[_Union[LogEntry, _Mapping]] = ..., entries: _Optional[_Iterable[_Union[LogEntry, _Mapping]]] = ...) -> None: ...

class LogEntry(_message.Message):
    __slots__ = ("time", "source", "line", "partial", "cursor", "gap")
    class Source(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SOURCE_UNSPECIFIED: _ClassVar[LogEntry.Source]
        SOURCE_STDOUT: _ClassVar[LogEntry.Source]
        SOURCE_STDERR: _ClassVar[LogEntry.Source]
    SOURCE_UNSPECIFIED: LogEntry.Source
    SOURCE_STDOUT: LogEntry.Source
    SOURCE_STDERR: LogEntry.Source
    TIME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    time: _timestamp_pb2.Timestamp
    source: LogEntry.Source
    line: bytes
    partial: bool
    cursor: str
    gap: bool
    def __init__(self, time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., source: _Optional[_Union[LogEntry.Source, str]] = ..., line: _Optional[bytes] = ..., partial: bool = ..., cursor: _Optional[str] = ..., gap: bool = ...) -> None: ...

class WatchStatsRequest(_message.Message):
    __slots__ = ("bot_ids", "interval")
    BOT_IDS_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    bot_ids: _containers.RepeatedScalarFieldContainer[str]
    interval: _duration_pb2.Duration
    def __init__(self, bot_ids: _Optional[_Iterable[str]] = ..., interval: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class WatchStatsResponse(_message.Message):
    __slots__ = ("bot_id", "container_id", "cpu_percent", "memory_usage_bytes", "memory_limit_bytes", "network_rx_bytes", "network_tx_bytes", "pids", "time")
    BOT_ID_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    CPU_PERCENT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_USAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    NETWORK_RX_BYTES_FIELD_NUMBER: _ClassVar[int]
    NETWORK_TX_BYTES_FIELD_NUMBER: _ClassVar[int]
    PIDS_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    bot_id: str
    container_id: str
    cpu_percent: float
    memory_usage_bytes: int
    memory_limit_bytes: int
    network_rx_bytes: int
    network_tx_bytes: int
    pids: int
    time: _timestamp_pb2.Timestamp
    def __init__(self, bot_id: _Optional[str] = ..., container_id: _Optional[str] = ..., cpu_percent: _Optional[float] = ..., memory_usage_bytes: _Optional[int] = ..., memory_limit_bytes: _Optional[int] = ..., network_rx_bytes: _Optional[int] = ..., network_tx_bytes: _Optional[int] = ..., pids: _Optional[int] = ..., time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GetStatsRequest(_message.Message):
    __slots__ = ("bot_ids", "max_age")
    BOT_IDS_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_FIELD_NUMBER: _ClassVar[int]
    bot_ids: _containers.RepeatedScalarFieldContainer[str]
    max_age: _duration_pb2.Duration
    def __init__(self, bot_ids: _Optional[_Iterable[str]] = ..., max_age: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class GetStatsResponse(_message.Message):
    __slots__ = ("containers",)
    CONTAINERS_FIELD_NUMBER: _ClassVar[int]
    containers: _containers.RepeatedCompositeFieldContainer[ContainerStats]
    def __init__(self, containers: _Optional[_Iterable[_Union[ContainerStats, _Mapping]]] = ...) -> None: ...

class ContainerStats(_message.Message):
    __slots__ = ("bot_id", "container_id", "cpu_percent", "memory_usage_bytes", "memory_limit_bytes", "network_rx_bytes", "network_tx_bytes", "pids", "time", "state_bytes", "layer_bytes")
    BOT_ID_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    CPU_PERCENT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_USAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    NETWORK_RX_BYTES_FIELD_NUMBER: _ClassVar[int]
    NETWORK_TX_BYTES_FIELD_NUMBER: _ClassVar[int]
    PIDS_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    STATE_BYTES_FIELD_NUMBER: _ClassVar[int]
    LAYER_BYTES_FIELD_NUMBER: _ClassVar[int]
    bot_id: str
    container_id: str
    cpu_percent: float
    memory_usage_bytes: int
    memory_limit_bytes: int
    network_rx_bytes: int
    network_tx_bytes: int
    pids: int
    time: _timestamp_pb2.Timestamp
    state_bytes: int
    layer_bytes: int
    def __init__(self, bot_id: _Optional[str] = ..., container_id: _Optional[str] = ..., cpu_percent: _Optional[float] = ..., memory_usage_bytes: _Optional[int] = ..., memory_limit_bytes: _Optional[int] = ..., network_rx_bytes: _Optional[int] = ..., network_tx_bytes: _Optional[int] = ..., pids: _Optional[int] = ..., time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., state_bytes: _Optional[int] = ..., layer_bytes: _Optional[int] = ...) -> None: ...

class GetContainerConfigRequest(_message.Message):
    __slots__ = ("bot_id",)
    BOT_ID_FIELD_NUMBER: _ClassVar[int]
    bot_id: str
    def __init__(self, bot_id: _Optional[str] = ...) -> None: ...

class GetContainerConfigResponse(_message.Message):
    __slots__ = ("config", "image_id")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    config: _container_manager_pb2.ContainerConfig
    image_id: str
    def __init__(self, config: _Optional[_Union[_container_manager_pb2.ContainerConfig, _Mapping]] = ..., image_id: _Optional[str] = ...) -> None: ...

class GetServerInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServerInfoResponse(_message.Message):
    __slots__ = ("version", "backend", "backend_version", "services", "limits", "actions")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    BACKEND_VERSION_FIELD_NUMBER: _ClassVar[int]
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    version: str
    backend: str
    backend_version: str
    services: _containers.RepeatedScalarFieldContainer[str]
    limits: ServerLimits
    actions: _containers.RepeatedCompositeFieldContainer[ActionInfo]
    def __init__(self, version: _Optional[str] = ..., backend: _Optional[str] = ..., backend_version: _Optional[str] = ..., services: _Optional[_Iterable[str]] = ..., limits: _Optional[_Union[ServerLimits, _Mapping]] = ..., actions: _Optional[_Iterable[_Union[ActionInfo, _Mapping]]] = ...) -> None: ...

class ActionInfo(_message.Message):
    __slots__ = ("name", "arguments", "images", "image_label")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    IMAGE_LABEL_FIELD_NUMBER: _ClassVar[int]
    name: str
    arguments: _containers.RepeatedCompositeFieldContainer[ActionArgument]
    images: _containers.RepeatedScalarFieldContainer[str]
    image_label: str
    def __init__(self, name: _Optional[str] = ..., arguments: _Optional[_Iterable[_Union[ActionArgument, _Mapping]]] = ..., images: _Optional[_Iterable[str]] = ..., image_label: _Optional[str] = ...) -> None: ...

class ActionArgument(_message.Message):
    __slots__ = ("name", "pattern")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    name: str
    pattern: str
    def __init__(self, name: _Optional[str] = ..., pattern: _Optional[str] = ...) -> None: ...

class ServerLimits(_message.Message):
    __slots__ = ("max_concurrent_calls", "max_watchers", "max_log_streams", "max_request_bytes", "max_response_bytes", "max_maintenance_streams", "max_actions")
    MAX_CONCURRENT_CALLS_FIELD_NUMBER: _ClassVar[int]
    MAX_WATCHERS_FIELD_NUMBER: _ClassVar[int]
    MAX_LOG_STREAMS_FIELD_NUMBER: _ClassVar[int]
    MAX_REQUEST_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_RESPONSE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_MAINTENANCE_STREAMS_FIELD_NUMBER: _ClassVar[int]
    MAX_ACTIONS_FIELD_NUMBER: _ClassVar[int]
    max_concurrent_calls: int
    max_watchers: int
    max_log_streams: int
    max_request_bytes: int
    max_response_bytes: int
    max_maintenance_streams: int
    max_actions: int
    def __init__(self, max_concurrent_calls: _Optional[int] = ..., max_watchers: _Optional[int] = ..., max_log_streams: _Optional[int] = ..., max_request_bytes: _Optional[int] = ..., max_response_bytes: _Optional[int] = ..., max_maintenance_streams: _Optional[int] = ..., max_actions: _Optional[int] = ...) -> None: ...
