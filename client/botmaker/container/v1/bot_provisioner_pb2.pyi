from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PutSecretsRequest(_message.Message):
    __slots__ = ("bot_id", "secrets", "replace_all")
    class SecretsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    BOT_ID_FIELD_NUMBER: _ClassVar[int]
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    REPLACE_ALL_FIELD_NUMBER: _ClassVar[int]
    bot_id: str
    secrets: _containers.ScalarMap[str, bytes]
    replace_all: bool
    def __init__(self, bot_id: _Optional[str] = ..., secrets: _Optional[_Mapping[str, bytes]] = ..., replace_all: bool = ...) -> None: ...

class PutSecretsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListSecretsRequest(_message.Message):
    __slots__ = ("bot_id",)
    BOT_ID_FIELD_NUMBER: _ClassVar[int]
    bot_id: str
    def __init__(self, bot_id: _Optional[str] = ...) -> None: ...

class ListSecretsResponse(_message.Message):
    __slots__ = ("secrets",)
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    secrets: _containers.RepeatedCompositeFieldContainer[SecretInfo]
    def __init__(self, secrets: _Optional[_Iterable[_Union[SecretInfo, _Mapping]]] = ...) -> None: ...

class SecretInfo(_message.Message):
    __slots__ = ("name", "size_bytes", "time")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    size_bytes: int
    time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., size_bytes: _Optional[int] = ..., time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class DeleteSecretsRequest(_message.Message):
    __slots__ = ("bot_id", "names")
    BOT_ID_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    bot_id: str
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, bot_id: _Optional[str] = ..., names: _Optional[_Iterable[str]] = ...) -> None: ...

class DeleteSecretsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReloadSecretsRequest(_message.Message):
    __slots__ = ("bot_id", "mode")
    class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        MODE_UNSPECIFIED: _ClassVar[ReloadSecretsRequest.Mode]
        MODE_RELOAD: _ClassVar[ReloadSecretsRequest.Mode]
        MODE_RELOAD_OR_RESTART: _ClassVar[ReloadSecretsRequest.Mode]
    MODE_UNSPECIFIED: ReloadSecretsRequest.Mode
    MODE_RELOAD: ReloadSecretsRequest.Mode
    MODE_RELOAD_OR_RESTART: ReloadSecretsRequest.Mode
    BOT_ID_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    bot_id: str
    mode: ReloadSecretsRequest.Mode
    def __init__(self, bot_id: _Optional[str] = ..., mode: _Optional[_Union[ReloadSecretsRequest.Mode, str]] = ...) -> None: ...

class ReloadSecretsResponse(_message.Message):
    __slots__ = ("outcome", "confirmed")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTCOME_UNSPECIFIED: _ClassVar[ReloadSecretsResponse.Outcome]
        OUTCOME_RELOADED: _ClassVar[ReloadSecretsResponse.Outcome]
        OUTCOME_RESTARTED: _ClassVar[ReloadSecretsResponse.Outcome]
        OUTCOME_NOT_RUNNING: _ClassVar[ReloadSecretsResponse.Outcome]
    OUTCOME_UNSPECIFIED: ReloadSecretsResponse.Outcome
    OUTCOME_RELOADED: ReloadSecretsResponse.Outcome
    OUTCOME_RESTARTED: ReloadSecretsResponse.Outcome
    OUTCOME_NOT_RUNNING: ReloadSecretsResponse.Outcome
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    CONFIRMED_FIELD_NUMBER: _ClassVar[int]
    outcome: ReloadSecretsResponse.Outcome
    confirmed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, outcome: _Optional[_Union[ReloadSecretsResponse.Outcome, str]] = ..., confirmed: _Optional[_Iterable[str]] = ...) -> None: ...

class PutFilesRequest(_message.Message):
    __slots__ = ("bot_id", "files")
    class FilesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    BOT_ID_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    bot_id: str
    files: _containers.ScalarMap[str, bytes]
    def __init__(self, bot_id: _Optional[str] = ..., files: _Optional[_Mapping[str, bytes]] = ...) -> None: ...

class PutFilesResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DeleteStateRequest(_message.Message):
    __slots__ = ("bot_id",)
    BOT_ID_FIELD_NUMBER: _ClassVar[int]
    bot_id: str
    def __init__(self, bot_id: _Optional[str] = ...) -> None: ...

class DeleteStateResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
