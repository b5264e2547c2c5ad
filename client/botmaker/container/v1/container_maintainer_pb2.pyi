from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class UpgradePhase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UPGRADE_PHASE_UNSPECIFIED: _ClassVar[UpgradePhase]
    UPGRADE_PHASE_PULLING: _ClassVar[UpgradePhase]
    UPGRADE_PHASE_STOPPING: _ClassVar[UpgradePhase]
    UPGRADE_PHASE_BACKING_UP: _ClassVar[UpgradePhase]
    UPGRADE_PHASE_REPLACING: _ClassVar[UpgradePhase]
    UPGRADE_PHASE_WAITING_READY: _ClassVar[UpgradePhase]
    UPGRADE_PHASE_COMMITTED: _ClassVar[UpgradePhase]
    UPGRADE_PHASE_ROLLING_BACK: _ClassVar[UpgradePhase]
    UPGRADE_PHASE_ROLLED_BACK: _ClassVar[UpgradePhase]
    UPGRADE_PHASE_ROLLBACK_FAILED: _ClassVar[UpgradePhase]

class RestorePhase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESTORE_PHASE_UNSPECIFIED: _ClassVar[RestorePhase]
    RESTORE_PHASE_VERIFYING: _ClassVar[RestorePhase]
    RESTORE_PHASE_STOPPING: _ClassVar[RestorePhase]
    RESTORE_PHASE_REPLACING: _ClassVar[RestorePhase]
    RESTORE_PHASE_WAITING_READY: _ClassVar[RestorePhase]
    RESTORE_PHASE_COMMITTED: _ClassVar[RestorePhase]
    RESTORE_PHASE_ROLLING_BACK: _ClassVar[RestorePhase]
    RESTORE_PHASE_ROLLED_BACK: _ClassVar[RestorePhase]
    RESTORE_PHASE_ROLLBACK_FAILED: _ClassVar[RestorePhase]
UPGRADE_PHASE_UNSPECIFIED: UpgradePhase
UPGRADE_PHASE_PULLING: UpgradePhase
UPGRADE_PHASE_STOPPING: UpgradePhase
UPGRADE_PHASE_BACKING_UP: UpgradePhase
UPGRADE_PHASE_REPLACING: UpgradePhase
UPGRADE_PHASE_WAITING_READY: UpgradePhase
UPGRADE_PHASE_COMMITTED: UpgradePhase
UPGRADE_PHASE_ROLLING_BACK: UpgradePhase
UPGRADE_PHASE_ROLLED_BACK: UpgradePhase
UPGRADE_PHASE_ROLLBACK_FAILED: UpgradePhase
RESTORE_PHASE_UNSPECIFIED: RestorePhase
RESTORE_PHASE_VERIFYING: RestorePhase
RESTORE_PHASE_STOPPING: RestorePhase
RESTORE_PHASE_REPLACING: RestorePhase
RESTORE_PHASE_WAITING_READY: RestorePhase
RESTORE_PHASE_COMMITTED: RestorePhase
RESTORE_PHASE_ROLLING_BACK: RestorePhase
RESTORE_PHASE_ROLLED_BACK: RestorePhase
RESTORE_PHASE_ROLLBACK_FAILED: RestorePhase

class UpgradeContainerRequest(_message.Message):
    __slots__ = ("bot_id", "image", "request_id", "ready_timeout", "grace_period", "skip_backup")
    BOT_ID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    READY_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    GRACE_PERIOD_FIELD_NUMBER: _ClassVar[int]
    SKIP_BACKUP_FIELD_NUMBER: _ClassVar[int]
    bot_id: str
    image: str
    request_id: str
    ready_timeout: _duration_pb2.Duration
    grace_period: _duration_pb2.Duration
    skip_backup: bool
    def __init__(self, bot_id: _Optional[str] = ..., image: _Optional[str] = ..., request_id: _Optional[str] = ..., ready_timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., grace_period: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., skip_backup: bool = ...) -> None: ...

class UpgradeContainerResponse(_message.Message):
    __slots__ = ("phase", "backup_id", "old_image_id", "new_image_id", "pull_progress", "message")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    BACKUP_ID_FIELD_NUMBER: _ClassVar[int]
    OLD_IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    NEW_IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    PULL_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    phase: UpgradePhase
    backup_id: str
    old_image_id: str
    new_image_id: str
    pull_progress: PullProgress
    message: str
    def __init__(self, phase: _Optional[_Union[UpgradePhase, str]] = ..., backup_id: _Optional[str] = ..., old_image_id: _Optional[str] = ..., new_image_id: _Optional[str] = ..., pull_progress: _Optional[_Union[PullProgress, _Mapping]] = ..., message: _Optional[str] = ...) -> None: ...

class PullProgress(_message.Message):
    __slots__ = ("downloaded_bytes", "total_bytes")
    DOWNLOADED_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    downloaded_bytes: int
    total_bytes: int
    def __init__(self, downloaded_bytes: _Optional[int] = ..., total_bytes: _Optional[int] = ...) -> None: ...

class CreateBackupRequest(_message.Message):
    __slots__ = ("bot_id", "request_id", "stop_and_restart")
    BOT_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    STOP_AND_RESTART_FIELD_NUMBER: _ClassVar[int]
    bot_id: str
    request_id: str
    stop_and_restart: bool
    def __init__(self, bot_id: _Optional[str] = ..., request_id: _Optional[str] = ..., stop_and_restart: bool = ...) -> None: ...

class CreateBackupResponse(_message.Message):
    __slots__ = ("progress", "backup")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    BACKUP_FIELD_NUMBER: _ClassVar[int]
    progress: BackupProgress
    backup: Backup
    def __init__(self, progress: _Optional[_Union[BackupProgress, _Mapping]] = ..., backup: _Optional[_Union[Backup, _Mapping]] = ...) -> None: ...

class BackupProgress(_message.Message):
    __slots__ = ("done_bytes", "total_bytes", "message")
    DONE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    done_bytes: int
    total_bytes: int
    message: str
    def __init__(self, done_bytes: _Optional[int] = ..., total_bytes: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...

class Backup(_message.Message):
    __slots__ = ("backup_id", "bot_id", "create_time", "size_bytes", "sha256", "image", "image_id", "has_secrets")
    BACKUP_ID_FIELD_NUMBER: _ClassVar[int]
    BOT_ID_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    HAS_SECRETS_FIELD_NUMBER: _ClassVar[int]
    backup_id: str
    bot_id: str
    create_time: _timestamp_pb2.Timestamp
    size_bytes: int
    sha256: str
    image: str
    image_id: str
    has_secrets: bool
    def __init__(self, backup_id: _Optional[str] = ..., bot_id: _Optional[str] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., size_bytes: _Optional[int] = ..., sha256: _Optional[str] = ..., image: _Optional[str] = ..., image_id: _Optional[str] = ..., has_secrets: bool = ...) -> None: ...

class ListBackupsRequest(_message.Message):
    __slots__ = ("bot_id",)
    BOT_ID_FIELD_NUMBER: _ClassVar[int]
    bot_id: str
    def __init__(self, bot_id: _Optional[str] = ...) -> None: ...

class ListBackupsResponse(_message.Message):
    __slots__ = ("backups",)
    BACKUPS_FIELD_NUMBER: _ClassVar[int]
    backups: _containers.RepeatedCompositeFieldContainer[Backup]
    def __init__(self, backups: _Optional[_Iterable[_Union[Backup, _Mapping]]] = ...) -> None: ...

class DeleteBackupRequest(_message.Message):
    __slots__ = ("backup_id",)
    BACKUP_ID_FIELD_NUMBER: _ClassVar[int]
    backup_id: str
    def __init__(self, backup_id: _Optional[str] = ...) -> None: ...

class DeleteBackupResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RestoreBackupRequest(_message.Message):
    __slots__ = ("bot_id", "backup_id", "request_id")
    BOT_ID_FIELD_NUMBER: _ClassVar[int]
    BACKUP_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    bot_id: str
    backup_id: str
    request_id: str
    def __init__(self, bot_id: _Optional[str] = ..., backup_id: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class RestoreBackupResponse(_message.Message):
    __slots__ = ("phase", "progress", "message")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    phase: RestorePhase
    progress: BackupProgress
    message: str
    def __init__(self, phase: _Optional[_Union[RestorePhase, str]] = ..., progress: _Optional[_Union[BackupProgress, _Mapping]] = ..., message: _Optional[str] = ...) -> None: ...

class RunActionRequest(_message.Message):
    __slots__ = ("bot_id", "action", "arguments")
    BOT_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    bot_id: str
    action: str
    arguments: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, bot_id: _Optional[str] = ..., action: _Optional[str] = ..., arguments: _Optional[_Iterable[str]] = ...) -> None: ...

class RunActionResponse(_message.Message):
    __slots__ = ("stdout", "stderr", "end")
    STDOUT_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    stdout: bytes
    stderr: bytes
    end: ActionEnd
    def __init__(self, stdout: _Optional[bytes] = ..., stderr: _Optional[bytes] = ..., end: _Optional[_Union[ActionEnd, _Mapping]] = ...) -> None: ...

class ActionEnd(_message.Message):
    __slots__ = ("exit_code", "timed_out", "omitted_bytes")
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    TIMED_OUT_FIELD_NUMBER: _ClassVar[int]
    OMITTED_BYTES_FIELD_NUMBER: _ClassVar[int]
    exit_code: int
    timed_out: bool
    omitted_bytes: int
    def __init__(self, exit_code: _Optional[int] = ..., timed_out: bool = ..., omitted_bytes: _Optional[int] = ...) -> None: ...
