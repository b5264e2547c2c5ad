"""A client of an OpenClaw gateway's HTTP side, published on the loopback address."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp

GATEWAY_PORT = 18789
# Nine seconds on an idle machine.
GATEWAY_START_SECONDS = 240.0

PROBE_SECONDS = 15.0
TOOL_SECONDS = 150.0
COMPLETION_SECONDS = 300.0


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


def is_ready_at(host: str, port: int) -> bool:
    """Whether the gateway of a container says that it is ready; false while nothing answers."""
    connection = http.client.HTTPConnection(host, port, timeout=PROBE_SECONDS)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


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


def complete(port: int, token: str, words: str) -> Answer:
    """Has the bot answer these words with its model, by the gateway's HTTP API, which its configuration must enable."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    body = json.dumps({"model": "openclaw", "messages": [{"role": "user", "content": words}]})
    return _request(port, "POST", "/v1/chat/completions", body, headers, timeout_seconds=COMPLETION_SECONDS)


async def refusal_of_page(port: int, token: str, *, origin: str) -> str:
    """The code with which the gateway refuses its control page, when a browser has loaded that from ``origin``.

    The page has to prove an identity of its browser after its origin, which this one has not.
    """
    client = {"id": "openclaw-control-ui", "version": "1", "platform": "web", "mode": "webchat"}
    about = {"minProtocol": 4, "maxProtocol": 4, "client": client, "role": "operator", "scopes": ["operator.admin"]}
    connect = {"type": "req", "id": "1", "method": "connect", "params": {**about, "auth": {"token": token}}}
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TOOL_SECONDS)) as session,
        session.ws_connect(f"http://127.0.0.1:{port}/", origin=origin) as page,
    ):
        await page.send_json(connect)
        while (answer := await page.receive_json())["type"] != "res":
            pass
        code: str = answer["error"]["details"]["code"]
        return code
