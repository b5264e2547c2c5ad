"""What keeps the service from starting."""

from __future__ import annotations


class StartupError(Exception):
    """The service cannot start as configured; ``str()`` is a sentence for the operator."""
