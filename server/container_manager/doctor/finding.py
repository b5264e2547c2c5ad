"""The result of one check."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """The outcome of a check."""

    OK = "ok"
    WARNING = "warning"
    """It works, but may surprise or harm someone."""
    FAILED = "failed"
    """It does not work."""


@dataclass(frozen=True)
class Finding:
    """What a check examined, its outcome, and what to do about it."""

    name: str
    verdict: Verdict
    detail: str
    """What the check found, with the relevant values."""
    remedy: str = ""
    """What to do; empty for ``OK``."""
