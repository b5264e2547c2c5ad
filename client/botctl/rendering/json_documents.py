"""The documents of ``--output json`` and ``yaml``. Every key is always present; ``null``: there is no value."""

from __future__ import annotations

import json
from collections.abc import MutableMapping, MutableSequence
from typing import TYPE_CHECKING, Any

import click
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from botctl.rendering import words
from botctl.rendering.unsafe_text import printable_json
from botctl.rendering.yaml_text import yaml_text
from botmaker.container.v1 import container_manager_pb2 as pb

if TYPE_CHECKING:
    from botctl.parallel import Result
    from botmaker.container.v1 import bot_provisioner_pb2 as provisioner_pb
    from botmaker.container.v1 import container_maintainer_pb2 as maintainer_pb
    from botmaker.container.v1 import container_observer_pb2 as observer_pb

Json = dict[str, Any]

_FIRST = ("bot_id", "state", "health")


def write_document(document: Any) -> None:
    """Writes one indented document."""
    click.echo(yaml_text(document) if _as_yaml() else _json(document, indent=2))


def write_line(document: dict[str, Any]) -> None:
    """Writes one message of a stream: a line of JSON, or a YAML document."""
    click.echo(f"---\n{yaml_text(document)}" if _as_yaml() else _json(document))


def status_document(status: pb.ContainerStatus) -> Json:
    """A container: all fields of the message, the most important ones first."""
    names = dict.fromkeys((*_FIRST, *(field.name for field in status.DESCRIPTOR.fields)))
    return {name: _value(status, name) for name in names}


def absent_document(bot_id: str) -> Json:
    """A bot without a container, with the same keys."""
    nothing: Json = dict.fromkeys(status_document(pb.ContainerStatus()))
    return {**nothing, "bot_id": bot_id, "state": words.ABSENT, "restart_count": 0, "ports": [], "labels": {}}


def config_document(config: pb.ContainerConfig) -> Json:
    """A configuration: all fields of the message."""
    return {field.name: _value(config, field.name) for field in config.DESCRIPTOR.fields}


def result_document(result: Result) -> Json:
    """The result for a bot."""
    problem = result.problem
    error = problem and {
        "message": problem.message,
        "exit_code": int(problem.exit_code),
        "code": problem.code or None,
        "reason": problem.reason or None,
    }
    document: Json = {"bot_id": result.bot_id, "result": result.done or "failed", "error": error, **result.details}
    return {**document, "log": result.log} if result.log else document


def log_document(entry: observer_pb.LogEntry) -> Json:
    """A log entry. ``--after`` accepts its time."""
    return {
        "time": words.time_text(entry.time),
        "source": words.source_word(entry.source),
        "line": entry.line.decode("utf-8", "replace"),
        "partial": entry.partial,
    }


def secret_document(secret: provisioner_pb.SecretInfo) -> Json:
    """A secret file, without its content."""
    return {"name": secret.name, "size_bytes": secret.size_bytes, "time": words.time_text(secret.time)}


def backup_document(backup: maintainer_pb.Backup) -> Json:
    """A backup: all fields of the message."""
    document = {field.name: getattr(backup, field.name) for field in backup.DESCRIPTOR.fields}
    return {**document, "create_time": words.time_text(backup.create_time)}


def stats_document(sample: observer_pb.WatchStatsResponse | observer_pb.ContainerStats) -> Json:
    """A sample of resource use."""
    numbers = (
        "cpu_percent",
        "memory_usage_bytes",
        "memory_limit_bytes",
        "network_rx_bytes",
        "network_tx_bytes",
        "pids",
    )
    return {
        "bot_id": sample.bot_id or None,
        "container_id": sample.container_id,
        "time": words.time_text(sample.time),
        **{name: getattr(sample, name) for name in numbers},
    }


def _json(document: Any, **options: Any) -> str:
    return printable_json(json.dumps(document, ensure_ascii=False, **options))


def _as_yaml() -> bool:
    return click.get_current_context().meta.get("botctl.output") == "yaml"


def _value(message: Message, name: str) -> Any:
    field: Any = message.DESCRIPTOR.fields_by_name[name]
    value: Any = getattr(message, name)
    if isinstance(value, MutableMapping):
        return dict(sorted(value.items()))
    if isinstance(value, MutableSequence):
        return [_message_value(each) if isinstance(each, Message) else each for each in value]
    if field.has_presence and not message.HasField(name):
        return None
    if isinstance(value, Message):
        return _message_value(value)
    if field.enum_type is not None:
        return words.enum_word(field.enum_type, value) or None
    return None if value == "" else value


def _message_value(message: Message) -> Any:
    if isinstance(message, Timestamp):
        return words.time_text(message)
    if isinstance(message, Duration):
        # As the options of create accept it.
        return message.ToJsonString()
    if isinstance(message, pb.PortBinding):
        return _port_document(message)
    return {field.name: _value(message, field.name) for field in message.DESCRIPTOR.fields}


def _port_document(port: pb.PortBinding) -> Json:
    return {
        "container_port": port.container_port,
        "host_port": port.host_port,
        "host_ip": port.host_ip,
        "protocol": words.protocol_word(port.protocol),
    }
