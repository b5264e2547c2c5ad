"""A client of an OpenClaw gateway's HTTP side, published on the loopback address."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass

GATEWAY_PORT = 18789
# Nine seconds on an idle machine.
GATEWAY_START_SECONDS = 240.0

PROBE_SECONDS = 15.0
TOOL_SECONDS = 60.0


@dataclass(frozen=True)
class Answer:
    """The gateway's answer to a request."""

    status: int
    body: str


def is_live(port: int) -> bool:
    """Whether the gateway's health probe succeeds; false while nothing answers."""
    try:
        answer = _request(port, "GET", "/healthz", timeout_seconds=PROBE_SECONDS)
    except (OSError, http.client.HTTPException):
        return False
    return answer.status == 200 and bool(json.loads(answer.body).get("ok"))


def use_tool(port: int, token: str | None) -> Answer:
    """Calls a read-only tool, for which the gateway demands its token; None sends no token."""
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    body = json.dumps({"tool": "session_status", "args": {}})
    return _request(port, "POST", "/tools/invoke", body, headers, timeout_seconds=TOOL_SECONDS)


def _request(
    port: int,
    method: str,
    path: str,
    body: str | None = None,
    headers: dict[str, str] | None = None,
    *,
    timeout_seconds: float,
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_seconds)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return Answer(response.status, response.read().decode())
    finally:
        connection.close()
