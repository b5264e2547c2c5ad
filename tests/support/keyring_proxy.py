"""A proxy as BotMaker's keyring proxy is: a bot has a token of its own, in whose place the proxy puts the key.

It stands for the provider as well, and answers every request in the words of the protocol that its path shows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

HOST = "keyring-proxy"
"""The name that bots know the proxy by: give them ``{HOST: "host-gateway"}`` as an extra host."""
ANSWER = "pong"
_KEY = "the-real-key-of-"


@dataclass(frozen=True)
class Forwarded:
    """A request that had the bot's token, as the provider received it."""

    provider: str
    path: str
    key: str
    body: dict[str, Any]


@dataclass
class KeyringProxy:
    """What the proxy accepts, and what it saw."""

    port: int
    token: str
    forwarded: list[Forwarded] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Paths of requests without the bot's token."""

    def url(self, provider: str) -> str:
        """``AI_BASE_URL`` of a bot with this provider."""
        return f"http://{HOST}:{self.port}/v1/{provider}"


def key_of(provider: str) -> str:
    """The key that the proxy puts into requests for a provider. No bot has it."""
    return _KEY + provider


@contextmanager
def running_proxy(token: str) -> Iterator[KeyringProxy]:
    """A proxy on every address of this machine, which accepts one bot's token."""
    with ThreadingHTTPServer(("0.0.0.0", 0), _Handler) as server:
        server.proxy = KeyringProxy(server.server_port, token)  # type: ignore[attr-defined]
        thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server.proxy  # type: ignore[attr-defined]
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        # Lists of models, which a bot may ask for.
        self._answer(HTTPStatus.NOT_FOUND, b"{}", "application/json")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
        proxy: KeyringProxy = self.server.proxy  # type: ignore[attr-defined]
        # As BotMaker's proxy: the headers of OpenAI and of Anthropic.
        token = self.headers.get("authorization", "").removeprefix("Bearer ") or self.headers.get("x-api-key")
        if token != proxy.token:
            proxy.refused.append(self.path)
            self._answer(HTTPStatus.FORBIDDEN, b'{"error": "Invalid bot token"}', "application/json")
            return
        provider, _, path = self.path.removeprefix("/v1/").partition("/")
        proxy.forwarded.append(Forwarded(provider, f"/{path}", key_of(provider), body))
        self._answer(HTTPStatus.OK, *_answer(path, str(body.get("model")), stream=bool(body.get("stream"))))

    def _answer(self, status: HTTPStatus, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nothing: the records are the log."""


def _answer(path: str, model: str, *, stream: bool) -> tuple[bytes, str]:
    """The body of a provider's answer, and its type."""
    path, _, query = f"/{path}".partition("?")
    if path.endswith("/messages"):
        return _events(_messages(model), named=True)
    if path.endswith("/responses"):
        return _events(_responses(model), named=True)
    if path.endswith(":streamGenerateContent") or "alt=sse" in query:
        return _events([_gemini()])
    if path.endswith("/api/chat"):
        lines = [
            {"model": model, "message": {"role": "assistant", "content": ANSWER}, "done": False},
            {"model": model, "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"},
        ]
        return b"".join(json.dumps(line).encode() + b"\n" for line in lines), "application/x-ndjson"
    if stream:
        return _events(_chunks(model), end=b"data: [DONE]\n\n")
    choice = {"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}
    completion = {"id": "1", "object": "chat.completion", "model": model, "choices": [choice]}
    return json.dumps(completion).encode(), "application/json"


def _events(events: list[dict[str, Any]], *, named: bool = False, end: bytes = b"") -> tuple[bytes, str]:
    body = b""
    for event in events:
        body += f"event: {event['type']}\n".encode() if named else b""
        body += b"data: " + json.dumps(event).encode() + b"\n\n"
    return body + end, "text/event-stream"


def _chunks(model: str) -> list[dict[str, Any]]:
    about = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": model}
    said = {"index": 0, "delta": {"role": "assistant", "content": ANSWER}, "finish_reason": None}
    end = {"index": 0, "delta": {}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return [{**about, "choices": [said]}, {**about, "choices": [end]}, {**about, "choices": [], "usage": usage}]


def _messages(model: str) -> list[dict[str, Any]]:
    message = {"id": "m", "type": "message", "role": "assistant", "model": model, "content": [], "stop_reason": None}
    usage = {"input_tokens": 1, "output_tokens": 1}
    return [
        {"type": "message_start", "message": {**message, "usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": ANSWER}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ]


def _responses(model: str) -> list[dict[str, Any]]:
    text = {"type": "output_text", "text": ANSWER, "annotations": []}
    item = {"id": "i", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    begun = {**item, "status": "in_progress", "content": []}
    response = {"id": "r", "object": "response", "created_at": 1, "model": model, "output": []}
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    ended = {**response, "status": "completed", "output": [item], "usage": usage}
    place = {"item_id": "i", "output_index": 0, "content_index": 0}
    return [
        {"type": "response.created", "response": {**response, "status": "in_progress"}},
        {"type": "response.output_item.added", "output_index": 0, "item": begun},
        {"type": "response.content_part.added", **place, "part": {**text, "text": ""}},
        {"type": "response.output_text.delta", **place, "delta": ANSWER},
        {"type": "response.output_text.done", **place, "text": ANSWER},
        {"type": "response.content_part.done", **place, "part": text},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": ended},
    ]


def _gemini() -> dict[str, Any]:
    content = {"role": "model", "parts": [{"text": ANSWER}]}
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
    return {"candidates": [{"content": content, "finishReason": "STOP", "index": 0}], "usageMetadata": usage}
