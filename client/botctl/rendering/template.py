"""``--format TEMPLATE`` of ``botctl list``: a line for each container, with the fields of its JSON document."""

from __future__ import annotations

import re
from typing import Any

from botctl.exit_codes import ExitCode, Failure
from botctl.rendering import words
from botctl.rendering.json_documents import status_document
from botctl.rendering.unsafe_text import printable
from botctl.suggestion import suggestion
from botmaker.container.v1 import container_manager_pb2 as pb

_FIELD = re.compile(r"\{([^{}]*)\}")
_ESCAPES = {r"\t": "\t", r"\n": "\n"}


def check_template(template: str) -> None:
    """Raise :class:`Failure` for a field that a container does not have."""
    fill(template, pb.ContainerStatus())


def fill(template: str, status: pb.ContainerStatus) -> str:
    """The template with ``{bot_id}``, ``{state}``, ``{labels.team}`` and so on replaced."""
    document = status_document(status)
    for escape, character in _ESCAPES.items():
        template = template.replace(escape, character)
    return _FIELD.sub(lambda found: _text(found[1], document, status), template)


def _text(name: str, document: dict[str, Any], status: pb.ContainerStatus) -> str:
    field, _, key = name.partition(".")
    value = document.get(field)
    if field not in document or (key and field not in ("labels", "last_exit")):
        raise Failure(f"no such field: {{{name}}}{suggestion(field, list(document))}", ExitCode.USAGE)
    if field == "ports":
        value = ", ".join(words.port_text(port) for port in status.ports)
    elif key:
        value = (value or {}).get(key)
    elif isinstance(value, dict):
        value = ",".join(f"{each}={value[each]}" for each in value)
    return "" if value is None else printable(str(value))
