"""Documents as the engine writes them, reduced to the parts that the service reads."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from typing import Any

from tests.support.fake_engine import Json, Raw, Request

BOT = "0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11"
OTHER_BOT = "7d1d8f3a-98b2-4a44-8a55-3f0b6a1c2d22"
NAME = f"botmaker-{BOT}"
ID = "3f4e9c" + "0" * 58
OTHER_ID = "a81b2c" + "1" * 58
IMAGE_ID = "sha256:" + "ab" * 32
NEVER = "0001-01-01T00:00:00Z"
CREATED = "2026-11-20T10:00:00.123456789Z"
STARTED = "2026-11-20T10:00:05.5Z"
FINISHED = "2026-11-20T10:01:00Z"
# The three times above in whole seconds since the epoch.
CREATED_S, STARTED_S, FINISHED_S = 1_795_168_800, 1_795_168_805, 1_795_168_860
LABELS = {"botmaker.managed": "true", "botmaker.bot-id": BOT}


def state(status: str = "created", **changes: Any) -> dict[str, Any]:
    """``State`` of an inspect document; by default of a container that never ran."""
    return {
        "Status": status,
        "Running": status in ("running", "paused", "restarting"),
        "Paused": status == "paused",
        "Restarting": status == "restarting",
        "OOMKilled": False,
        "Dead": status == "dead",
        "Pid": 4711 if status in ("running", "paused") else 0,
        "ExitCode": 0,
        "Error": "",
        "StartedAt": NEVER,
        "FinishedAt": NEVER,
        **changes,
    }


def running(**changes: Any) -> dict[str, Any]:
    """``State`` of a running container."""
    return state("running", **{"StartedAt": STARTED, **changes})


def exited(code: int = 0, **changes: Any) -> dict[str, Any]:
    """``State`` of a container whose process has ended."""
    return state("exited", **{"ExitCode": code, "StartedAt": STARTED, "FinishedAt": FINISHED, **changes})


def inspected(
    engine_state: dict[str, Any] | None = None,
    *,
    container_id: str = ID,
    name: str = NAME,
    labels: dict[str, str] | None = LABELS,
    config: dict[str, Any] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """``GET /containers/{id}/json``."""
    return {
        "Id": container_id,
        "Created": CREATED,
        "Path": "node",
        "Args": ["dist/index.js"],
        "State": engine_state or state(),
        "Image": IMAGE_ID,
        "Name": f"/{name}",
        "RestartCount": 0,
        "Config": {
            "Image": "botmaker/openclaw:1",
            "Env": ["PATH=/usr/local/bin:/usr/bin"],
            "WorkingDir": "",
            "Labels": labels,
            **(config or {}),
        },
        "NetworkSettings": {"Ports": {}},
        **changes,
    }


def row(container_id: str = ID, bot_id: str = BOT, **changes: Any) -> dict[str, Any]:
    """One row of ``GET /containers/json``."""
    return {
        "Id": container_id,
        "Names": [f"/botmaker-{bot_id}"],
        "Image": "botmaker/openclaw:1",
        "ImageID": IMAGE_ID,
        "Command": "node dist/index.js",
        "Created": CREATED_S,
        "Ports": [],
        "Labels": {"botmaker.managed": "true", "botmaker.bot-id": bot_id},
        "State": "running",
        "Status": "Up 2 minutes",
        **changes,
    }


def path_stat(mode: int, link_target: str = "") -> Json:
    """The header of the answer to HEAD of the archive endpoint; ``mode`` is a Go file mode."""
    found = {"name": "node", "size": 1, "mode": mode, "mtime": STARTED, "linkTarget": link_target}
    encoded = base64.b64encode(json.dumps(found).encode()).decode()
    return Json(None, headers={"X-Docker-Container-Path-Stat": encoded})


def node_program(request: Request) -> Json:
    """The answer to HEAD of the archive endpoint where every directory has a program ``node``."""
    return path_stat(0o755 if request.query["path"].endswith("/node") else 1 << 31 | 0o755)


def archived(content: bytes, mode: int = 0o755, uid: int = 0, capabilities: bytes = b"") -> Raw:
    """The answer to GET of the archive endpoint; ``mode`` is a Go file mode of a regular file or a directory."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("node")
        member.mode, member.uid, member.gid, member.size = mode & 0o7777, uid, uid, len(content)
        member.type = tarfile.DIRTYPE if mode & 1 << 31 else tarfile.REGTYPE
        if capabilities:
            member.pax_headers["SCHILY.xattr.security.capability"] = capabilities.decode("utf-8", "surrogateescape")
        archive.addfile(member, io.BytesIO(content))
    return Raw(packed.getvalue(), headers={"Content-Type": "application/x-tar"})
