"""Secrets as bytes to search for, in every form in which a program might write them."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator, Mapping
from urllib.parse import quote_from_bytes

_SHORTEST_LINE = 12


def seeded_secrets(seed: int) -> dict[str, bytes]:
    """Contents of secret files: realistic keys, and values that break careless programs."""
    draw = random.Random(seed)
    lines = "\n".join(base64.b64encode(draw.randbytes(48)).decode() for _ in range(3))
    return {
        "GATEWAY_TOKEN": draw.randbytes(24).hex().encode(),
        "BYTES": draw.randbytes(32),
        "FORMATS": f"%s%(message)s{{0}}{{bot_id}}%n{draw.randbytes(16).hex()}".encode(),
        "LINES": f"-----BEGIN PRIVATE KEY-----\n{lines}\n-----END PRIVATE KEY-----\n".encode(),
        "TERMINAL": b"\x1b[31m\r\x00" + draw.randbytes(16).hex().encode(),
        "JSON": json.dumps({"key": f'"\\{draw.randbytes(16).hex()}'}).encode(),
    }


def forms(secret: bytes) -> Iterator[bytes]:
    """The secret as it is, each of its longer lines, and both in the encodings that programs use."""
    parts = [secret, *(line for line in secret.splitlines() if len(line) >= _SHORTEST_LINE and b"-----" not in line)]
    for part in parts:
        yield part
        yield base64.b64encode(part).rstrip(b"=")
        yield base64.urlsafe_b64encode(part).rstrip(b"=")
        yield part.hex().encode()
        yield part.hex().upper().encode()
        yield quote_from_bytes(part).encode()
        yield repr(part)[2:-1].encode()
        yield json.dumps(part.decode("utf-8", "replace"))[1:-1].encode()


def traces(secrets: Mapping[str, bytes], text: bytes) -> list[str]:
    """The secrets that occur in the text, in any form."""
    return [name for name, secret in secrets.items() if any(form in text for form in forms(secret))]
