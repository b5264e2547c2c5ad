"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """How it is."""

    OK = "ok"
    WARNING = "warning"
    """It works, and may surprise or harm somebody."""
    FAILED = "failed"
    """It does not work like this."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at, how it is, and what to do about it."""

    name: str
    verdict: Verdict
    detail: str
    """What was found, with the values that matter."""
    remedy: str = ""
    """What to do; empty when it is ok."""
