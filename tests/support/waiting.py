"""Waits for a condition instead of a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str, timeout_seconds: float = 60.0) -> T:
    """Wait for the condition's first true value and return it; fails the test if there is none in time."""
    ends = time.monotonic() + timeout_seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > ends:
            raise AssertionError(f"not within {timeout_seconds} s: {what}; last seen: {value!r}")
        time.sleep(0.02)
