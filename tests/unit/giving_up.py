"""The search for creates that were given up, on an engine that makes containers late."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from container_manager.backends import given_up_creates
from tests.support.fake_engine import FakeEngine
from tests.unit.late_engine import LateEngine


def searched_engine(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[LateEngine]:
    """An engine in which the search looks often; the search ends with its test."""
    monkeypatch.setattr(given_up_creates, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(given_up_creates, "LONGEST_PAUSE_SECONDS", 0.05)
    late = LateEngine(engine)
    yield late
    late.before_list.set()
    late.await_the_end()
