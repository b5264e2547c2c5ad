"""Build arguments with which the deployed images use this machine's package index and certificates."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Mapping

from dev.python_base import OFFLINE_IMAGE, SYSTEM_BUNDLE

_INDEX_SETTINGS = ("index-url", "extra-index-url", "trusted-host")


def pip_arguments(tag: str) -> dict[str, str]:
    """The build arguments for an image on this base."""
    settings = _pip_settings()
    arguments = {}
    for name in _INDEX_SETTINGS:
        # A build cannot reach directories of this machine.
        values = [value for value in settings.get(name, "").split() if not value.startswith(("file:", "/"))]
        if values:
            arguments["PIP_" + name.upper().replace("-", "_")] = " ".join(values)
    if tag == OFFLINE_IMAGE:
        arguments["PIP_CERT"] = SYSTEM_BUNDLE
    return arguments


def _pip_settings() -> Mapping[str, str]:
    """pip's settings by name, without their section; those of the environment override others, as in pip."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        for key, value in re.findall(rf"^{section}\.([a-z-]+)=(.*)$", told, re.MULTILINE):
            found[key] = str(ast.literal_eval(value))
    return found
