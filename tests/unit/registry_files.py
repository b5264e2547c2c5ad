"""A file with the credentials of registries, and what a pull gets from it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from container_manager.config import RegistryConfig
from container_manager.engine.registry_credentials import credentials_for

SECRET = "s3cret:with:colons"
ENCODED = base64.b64encode(f"user:{SECRET}".encode()).decode()
PAIR = {"username": "user", "password": SECRET}
HUB = "https://index.docker.io/v1/"

Write = Callable[..., RegistryConfig]


def written(directory: Path, content: Any) -> RegistryConfig:
    """Writes the file; text as it is, anything else as JSON."""
    path = directory / "registries.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    path.chmod(0o600)
    return RegistryConfig(path)


def auth_of(reference: str, config: RegistryConfig | None) -> dict[str, str]:
    """The engine's ``AuthConfig`` for a pull, without the address."""
    return {key: value for key, value in credentials_for(reference, config).auth.items() if key != "serveraddress"}
