"""Strategies for each field of each request: valid values, almost valid values, and wild ones.

``FIELDS`` has an entry for every field; a request is drawn by walking its descriptor, so that a field that is
missing here is an error and not a gap.
"""

from __future__ import annotations

import string
import uuid
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import strategies as st

from botmaker.container.v1 import bot_provisioner_pb2 as provisioner_pb
from botmaker.container.v1 import container_maintainer_pb2 as maintainer_pb
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb

SERVICES = (
    pb.DESCRIPTOR.services_by_name["ContainerManager"],
    observer_pb.DESCRIPTOR.services_by_name["ContainerObserver"],
    provisioner_pb.DESCRIPTOR.services_by_name["BotProvisioner"],
    maintainer_pb.DESCRIPTOR.services_by_name["ContainerMaintainer"],
)
INT32, INT64, UINT32, UINT64 = 2**31 - 1, 2**63 - 1, 2**32 - 1, 2**64 - 1
Strategy = st.SearchStrategy[Any]


class Values(NamedTuple):
    """The strategies of one field."""

    valid: Strategy
    wild: Strategy
    """Include almost valid values; some may be valid."""


FORGED = "\n2026-01-01T00:00:00Z [error    ] forged"
"""In another text of a log, a line of its own."""

# Text that has broken programs: shells, paths, URLs, headers, formats and terminals.
AWKWARD = (
    *("", " ", "\0", "a\0b", "\n", "a\nb", "\r\nX-Injected: 1", "\x1b[31m", "\x7f", "\u0085", "\ufeff", "\u202e"),
    *("..", ".", "/", "../../etc/passwd", "a/../../b", "%2e%2e%2f", "a?b=c", "a#b", "a%00b", "\\", "~", "/proc/1/root"),
    *("%s%n%d", "{0.__class__}", "${HOME}", "$(reboot)", "`id`", "'; --", '"', "=", ":", "::", ",", "-", "--help"),
    *("é", "e\u0301", "\U0001f916", "\uff10", "\ud7ff\ue000", "\uffff", "\U0010ffff", "null", "true", "NaN", "host"),
    *("container:", "none", "default", "a" * 255, "a" * 256, "é" * 70_000, "x" * 131_071, "x" * 131_072, "x" * 200_000),
    *(FORGED, FORGED.replace("\n", "\u2028"), FORGED.replace("\n", "\r"), "\x1b[2K\x1b]0;forged\x07", "\x9b31mforged"),
)
wild_text = st.sampled_from(AWKWARD) | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def _numbers(low: int, high: int, *edges: int) -> Strategy:
    inside = [edge for edge in (low, high, -1, 0, 1, *edges) if low <= edge <= high]
    return st.sampled_from(inside) | st.integers(low, high)


def _maps(names: Strategy, values: Strategy, most: int = 3) -> Strategy:
    return st.dictionaries(names, values, max_size=most)


def _many(make: Any) -> Strategy:
    """Counts of entries around the limit."""
    return st.sampled_from((1_000, 1_001, 3_000)).map(lambda count: make(range(count)))


def _durations() -> Values:
    valid = st.builds(Duration, seconds=st.sampled_from((0, 1, 2)))
    seconds = _numbers(-(2**63), INT64, 86_400, 86_401, 315_576_000_000, 315_576_000_001)
    return Values(valid, st.builds(Duration, seconds=seconds, nanos=_numbers(-(2**31), INT32, 999_999_999, 10**9)))


def _timestamps() -> Values:
    valid = st.builds(Timestamp, seconds=st.integers(0, 1_800_000_000), nanos=st.integers(0, 999_999_999))
    edges = (-62_135_596_800, -62_135_596_801, 253_402_300_799, 253_402_300_800)
    seconds = st.sampled_from(edges) | _numbers(-(2**63), INT64)
    return Values(valid, st.builds(Timestamp, seconds=seconds, nanos=_numbers(-(2**31), INT32, 999_999_999, 10**9)))


NEARLY: tuple[Callable[[str], str], ...] = (
    *(str.upper, "{{{}}}".format, "{}\n".format, " {}".format, "{}/..".format, "../{}".format, "urn:uuid:{}".format),
    lambda value: value.replace("-", ""),
)
valid_id = st.uuids().map(str)
ids = Values(
    # The test provides the ids of existing bots.
    st.integers(0, 7).map(lambda number: KNOWN_IDS[number % len(KNOWN_IDS)]),
    wild_text | valid_id | st.builds(lambda spoil, value: spoil(value), st.sampled_from(NEARLY), valid_id),
)
KNOWN_IDS: list[str] = [str(uuid.UUID(int=0))]
"""Bots on the engine under test; set by the test."""
name = st.text(string.ascii_letters + "_", min_size=1, max_size=8)
word = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=12)
ip = st.ip_addresses().map(str)
typed = Values(word, wild_text)
# The repeated ids of the streams: also none, and more than the limit.
several_ids = Values(
    st.lists(ids.valid, max_size=3),
    st.lists(ids.valid | ids.wild, max_size=5) | st.sampled_from((10_000, 10_001)).map(lambda n: [KNOWN_IDS[0]] * n),
)

# Names of files, and contents around the limit of a secret.
path = st.lists(name, min_size=1, max_size=3).map("/".join)
wild_path = wild_text | path | st.builds("{}/{}".format, wild_text, path) | st.builds("{}/{}".format, path, wild_text)
content = st.binary(max_size=20)
# Larger ones make requests that Hypothesis does not show.
wild_content = content | st.sampled_from((65_536, 65_537)).map(lambda size: b"x" * size)
many_files = st.sampled_from((64, 65, 3_000)).map(lambda count: {f"n{number}": b"" for number in range(count)})

# Well-formed ones too.
cursors = st.sampled_from((0, 1, 51, 60, 61)).flatmap(lambda n: st.text("0123456789abcdef", min_size=n, max_size=n))
own_labels = (
    _maps(wild_text | word | st.sampled_from(("botmaker.managed", "botmaker.x", "k" * 63, "k" * 64)), wild_text)
    | _many(lambda numbers: {f"k{number}": "v" for number in numbers})
    | st.sampled_from((16, 17)).map(lambda count: {f"k{number}": "v" * 128 for number in range(count)})
)

request_ids = Values(st.just("") | word, wild_text | st.just("r" * 129))
images = Values(
    st.just(""),
    wild_text
    | st.sampled_from(
        (
            *("UPPER", "a:b:c", "a//b", "a@sha256:0", "a@md5:" + "0" * 32, "a@x:" + "0" * 32, "scratch", "[::1]/a"),
            *("sha256:" + "0" * 64, "0" * 64, "a/" * 120 + "a", "-a", "a-", "localhost:99999/a", "a:" + "t" * 129),
            "a@sha256:" + "0" * 64,
        )
    ),
)

NEEDED = ("bot_id", "command", "container_port")
"""A request without these is refused, whatever else it contains."""

FIELDS: Mapping[str, Values] = {
    "CreateContainerRequest.bot_id": ids,
    "CreateContainerRequest.request_id": request_ids,
    "ContainerConfig.image": images,
    "ContainerConfig.ai_provider": typed,
    "ContainerConfig.ai_model": typed,
    "ContainerConfig.channel_type": typed,
    "ContainerConfig.environment": Values(
        _maps(name, word),
        _maps(name | wild_text | st.sampled_from(("BOT_ID", "AI_MODEL", "PATH", "LD_PRELOAD")), wild_text)
        | _many(lambda numbers: {f"N{number}": "x" for number in numbers})
        | st.just({f"N{number}": "x" * 130_000 for number in range(9)}),
    ),
    "ContainerConfig.network": Values(
        st.sampled_from(("", "bridge", "none")),
        wild_text | st.sampled_from(("Host", "ingress", "docker_gwbridge", "container:abc", "0", "a" * 128, "a" * 129)),
    ),
    "ContainerConfig.extra_hosts": Values(
        _maps(word, ip | st.just("host-gateway")),
        _maps(wild_text | word | st.sampled_from(("a" * 254, "a." * 120, "-a")), wild_text | ip | st.just("fe80::1%lo"))
        | _many(lambda numbers: {f"h{number}": "10.0.0.1" for number in numbers}),
    ),
    "ContainerConfig.command": Values(
        st.just(["sleep", "100000"]),
        st.lists(wild_text, max_size=4)
        | _many(lambda numbers: ["x" for _ in numbers])
        | st.just(["x" * 130_000] * 9)
        | st.sampled_from(("/" * 5_000, "/bin", "/bin/", "no-such-command", "../bin/sh")).map(lambda path: [path]),
    ),
    "HealthCheck.command": Values(
        st.just(["true"]),
        st.lists(wild_text, max_size=4) | _many(lambda numbers: ["x" for _ in numbers]) | st.just(["x" * 130_000] * 9),
    ),
    "HealthCheck.interval": Values(st.just(Duration(seconds=60)), _durations().wild),
    "HealthCheck.timeout": Values(st.just(Duration(seconds=1)), _durations().wild),
    "HealthCheck.start_period": _durations(),
    "HealthCheck.retries": Values(st.integers(0, 5), _numbers(0, UINT32, INT32, 2**31)),
    "ContainerConfig.hostname": Values(
        st.just("") | word, wild_text | st.sampled_from(("-a", "a-", "a.b", "a_b", "a" * 63, "a" * 64))
    ),
    "ContainerConfig.labels": Values(_maps(word, word), own_labels),
    "PortBinding.container_port": Values(st.integers(1, 65_535), _numbers(0, UINT32, 65_535, 65_536)),
    "PortBinding.host_port": Values(st.just(0), _numbers(0, UINT32, 65_535, 65_536, 80)),
    "PortBinding.host_ip": Values(
        st.sampled_from(("", "127.0.0.1")), wild_text | ip | st.sampled_from(("fe80::1%lo", "1.2.3", "0x7f.1", "[::1]"))
    ),
    "PortBinding.protocol": Values(st.sampled_from((0, 1, 2)), _numbers(-(2**31), INT32, 3, 4)),
    "ResourceLimits.memory_bytes": Values(st.just(0) | st.just(64 << 20), _numbers(-(2**63), INT64, 6 << 20)),
    "ResourceLimits.nano_cpus": Values(st.just(0) | st.just(10**9), _numbers(-(2**63), INT64, 10**6)),
    "ResourceLimits.pids_limit": Values(st.just(0) | st.just(100), _numbers(-(2**63), INT64)),
    "StartContainerRequest.bot_id": ids,
    "StopContainerRequest.bot_id": ids,
    "StopContainerRequest.grace_period": _durations(),
    "RestartContainerRequest.bot_id": ids,
    "RestartContainerRequest.grace_period": _durations(),
    "RemoveContainerRequest.bot_id": ids,
    "RemoveContainerRequest.grace_period": _durations(),
    "GetContainerStatusRequest.bot_id": ids,
    "ListManagedContainersRequest.states": Values(
        st.lists(st.integers(1, 7), max_size=7),
        st.lists(_numbers(-(2**31), INT32, 7, 8), max_size=5) | _many(lambda numbers: [1 for _ in numbers]),
    ),
    "ListManagedContainersRequest.bot_ids": several_ids,
    "ListManagedContainersRequest.labels": Values(_maps(word, word, 1), own_labels),
    "WatchContainersRequest.bot_ids": several_ids,
    "WatchContainersRequest.labels": Values(_maps(word, word, 1), own_labels),
    "StreamLogsRequest.bot_id": ids,
    "StreamLogsRequest.follow": Values(st.sampled_from((False,)), st.booleans()),
    "StreamLogsRequest.tail_lines": Values(st.integers(0, 10), _numbers(0, UINT32, INT32, 2**31)),
    "StreamLogsRequest.after": _timestamps(),
    "StreamLogsRequest.after_cursor": Values(st.just(""), wild_text | cursors),
    "StreamLogsRequest.max_batch_entries": Values(st.integers(0, 10), _numbers(0, 2, 1000, UINT32, INT32, 2**31)),
    "StreamLogsRequest.limit_bytes": Values(st.integers(1, 10_000), _numbers(0, UINT64, INT64, 2**63)),
    "PutSecretsRequest.bot_id": ids,
    "PutSecretsRequest.secrets": Values(
        _maps(name, content), _maps(wild_text | name, wild_content, 5) | _maps(name, wild_content, 5) | many_files
    ),
    "PutSecretsRequest.replace_all": Values(st.booleans(), st.booleans()),
    "ReloadSecretsRequest.bot_id": ids,
    "ReloadSecretsRequest.mode": Values(st.integers(0, 2), _numbers(-(2**31), INT32, 3)),
    "ListSecretsRequest.bot_id": ids,
    "DeleteSecretsRequest.bot_id": ids,
    "DeleteSecretsRequest.names": Values(
        st.lists(name, max_size=3), st.lists(wild_text | name, max_size=5) | many_files.map(list)
    ),
    "PutFilesRequest.bot_id": ids,
    "PutFilesRequest.files": Values(
        _maps(path, content), _maps(wild_path, wild_content, 5) | _maps(path, wild_content, 5) | many_files
    ),
    "DeleteStateRequest.bot_id": ids,
    "UpgradeContainerRequest.bot_id": ids,
    "UpgradeContainerRequest.image": images,
    "UpgradeContainerRequest.request_id": request_ids,
    "UpgradeContainerRequest.ready_timeout": Values(st.just(Duration(seconds=1)), _durations().wild),
    "UpgradeContainerRequest.grace_period": _durations(),
    "UpgradeContainerRequest.skip_backup": Values(st.booleans(), st.booleans()),
    "CreateBackupRequest.bot_id": ids,
    "CreateBackupRequest.request_id": request_ids,
    "CreateBackupRequest.stop_and_restart": Values(st.booleans(), st.booleans()),
    "ListBackupsRequest.bot_id": ids,
    "DeleteBackupRequest.backup_id": Values(st.just("") | word, wild_text | wild_path | st.just("b" * 300)),
    "RestoreBackupRequest.bot_id": ids,
    "RestoreBackupRequest.backup_id": Values(word, wild_text | wild_path | st.just("b" * 300)),
    "RestoreBackupRequest.request_id": request_ids,
    "RunActionRequest.bot_id": ids,
    "RunActionRequest.action": Values(st.sampled_from(("ready", "doctor", "pairing-list")), wild_text | word),
    "RunActionRequest.arguments": Values(
        st.just([]), st.lists(wild_text | word, max_size=4) | _many(lambda numbers: ["x" for _ in numbers])
    ),
    "GetStatsRequest.bot_ids": several_ids,
    "GetStatsRequest.max_age": _durations(),
    "GetContainerConfigRequest.bot_id": ids,
    "WatchStatsRequest.bot_ids": several_ids,
    "WatchStatsRequest.interval": Values(st.builds(Duration, seconds=st.just(1)), _durations().wild),
}


def requests(message_class: type[Message], wild: AbstractSet[str]) -> Strategy:
    """Requests of this type that are valid except for the fields whose keys are in ``wild``."""
    return _message(message_class.DESCRIPTOR, message_class, wild)


def keys(message_class: type[Message]) -> list[str]:
    """The keys of all fields, including those that hold messages."""
    return sorted({key(field) for field in all_fields(message_class.DESCRIPTOR)})


def fields(descriptor: Descriptor) -> Iterator[FieldDescriptor]:
    """Every field that holds a value, in the message and its nested ones; Google's messages and maps are values."""
    return (field for field in all_fields(descriptor) if not _is_nested(field))


def all_fields(descriptor: Descriptor) -> Iterator[FieldDescriptor]:
    """As :func:`fields`, and also the fields that hold the nested messages."""
    for field in descriptor.fields:
        yield field
        if _is_nested(field):
            yield from all_fields(field.message_type)


def key(field: FieldDescriptor) -> str:
    """The field's name in :data:`FIELDS`."""
    return f"{field.containing_type.name}.{field.name}"


def _is_nested(field: FieldDescriptor) -> bool:
    inner = field.message_type
    return inner is not None and inner.file.package != "google.protobuf" and not inner.GetOptions().map_entry


@st.composite
def _message(draw: Any, descriptor: Descriptor, make: Any, wild: AbstractSet[str]) -> Message:
    message = make()
    for field in descriptor.fields:
        given = field.name in NEEDED or key(field) in wild or _is_nested(field)
        if given or draw(st.booleans()):
            _set(message, field, draw(_value(field, wild)))
    return message


def _value(field: FieldDescriptor, wild: AbstractSet[str]) -> Strategy:
    if not _is_nested(field):
        values = FIELDS[key(field)]
        return values.wild if key(field) in wild else values.valid
    make = GetMessageClass(field.message_type)
    one = _message(field.message_type, make, wild)
    if not field.is_repeated:
        return one
    if key(field) in wild:
        return st.lists(one, max_size=3) | one.map(lambda message: [message] * 2) | _many(lambda n: [make() for _ in n])
    return st.lists(one, min_size=1, max_size=2)


def _set(message: Message, field: FieldDescriptor, value: Any) -> None:
    if field.is_repeated:
        held = getattr(message, field.name)
        held.update(value) if isinstance(value, dict) else held.extend(value)
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(value)
    else:
        setattr(message, field.name, value)
