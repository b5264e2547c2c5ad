"""Documents of a swarm's manager, as the tests need them."""

from __future__ import annotations

from typing import Any

from container_manager.backends.swarm.service_spec import Placement, service_body
from container_manager.model import ContainerConfig

Json = dict[str, Any]

BOT = "6f9619ff-8b86-4d11-b42d-00cf4fc964ff"
IMAGE = "registry.test/bot:1"
DIGEST = "sha256:" + "ab" * 32
NODE = "node1"
NODES: dict[str, Json] = {
    NODE: {"ID": NODE, "Description": {"Hostname": "machine-1"}, "Status": {"State": "ready"}},
    "node2": {"ID": "node2", "Description": {"Hostname": "machine-2"}, "Status": {"State": "down"}},
}


def spec(config: ContainerConfig | None = None, **settings: Any) -> Json:
    """The specification of the bot's service."""
    given: Json = {
        "image": f"{IMAGE}@{DIGEST}",
        "requested_image": IMAGE,
        "request_id": "",
        "create_id": "c",
        "stop_seconds": 10,
        "placement": Placement(),
        "secrets": (),
    }
    return service_body(BOT, config or ContainerConfig(), **{**given, **settings})


def service(specification: Json | None = None) -> Json:
    """The document of a service with this specification."""
    return {
        "ID": "service1",
        "Version": {"Index": 7},
        "CreatedAt": "2026-01-01T00:00:00.5Z",
        "Spec": specification or spec(),
    }


def task(state: str, second: int = 1, **fields: Any) -> Json:
    """A task that was created at this second of the day."""
    status: Json = {"State": state, "Timestamp": f"2026-01-01T00:01:{second:02}Z", **fields.pop("status", {})}
    return {
        "ID": f"task{second}",
        "ServiceID": "service1",
        "CreatedAt": f"2026-01-01T00:00:{second:02}Z",
        "NodeID": NODE,
        "Spec": spec()["TaskTemplate"],
        "DesiredState": "running",
        "Status": status,
        **fields,
    }


def ended(code: int, second: int = 1, **fields: Any) -> Json:
    """A task whose process has ended with this exit code."""
    status: Json = {"ContainerStatus": {"ContainerID": "c", "PID": 0, "ExitCode": code}}
    if code:
        return task("failed", second, status={**status, "Err": f"task: non-zero exit ({code})"}, **fields)
    return task("complete", second, status=status, **fields)
