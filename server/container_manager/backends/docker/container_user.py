"""The user that a container's programs run as, and its capabilities."""

from __future__ import annotations

from typing import Any

from container_manager.backends.bot_container import LABEL_CREATE_ID
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient

_READ_BYTES = 4_096


def user_name(inspected: dict[str, Any]) -> str:
    """Its name or number, from the container's inspect document."""
    return str(inspected["Config"].get("User") or "0").partition(":")[0]


def has_no_capabilities(inspected: dict[str, Any]) -> bool:
    """Whether its programs certainly have none and get none, as in each container that this service makes."""
    host = inspected.get("HostConfig") or {}
    dropped = host.get("CapDrop") or ()
    # Podman lists what it dropped instead of ALL.
    is_made_here = bool(dropped) and LABEL_CREATE_ID in (inspected["Config"].get("Labels") or {})
    return ("ALL" in dropped or is_made_here) and not host.get("CapAdd") and not host.get("Privileged")


def uid_of(engine: EngineClient, inspected: dict[str, Any], deadline: Deadline) -> int | None:
    """Its number in the container; ``None``: unknown. Raises ``EngineRejectedError``."""
    user = user_name(inspected)
    if user.isdecimal():
        return int(user)
    passwd = engine.read_start(inspected["Id"], "/etc/passwd", _READ_BYTES, deadline)
    for line in (passwd.content if passwd is not None else b"").decode("utf-8", "replace").splitlines():
        # The last line may be cut, within its number too.
        name, _, rest = line.partition(":")
        number, end, _ = rest.partition(":")[2].partition(":")
        if name == user and end and number.isdecimal():
            return int(number)
    return None
