"""The environment of processes that a test starts."""

from __future__ import annotations

import os
import sys


def child_environment() -> dict[str, str]:
    """The environment of this process, with its imports."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
