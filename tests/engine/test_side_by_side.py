"""Conformance 11, 13 and 15: bots run in parallel, and the service forgets nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.bots import Bots
from tests.support.calls import STUBBORN, Calls
from tests.support.restart_contract import RestartContract
from tests.support.side_by_side_contract import SideBySideContract


@pytest.fixture
def stubborn(calls: Calls, bots: Bots) -> list[str]:
    """Eight bots that ignore SIGTERM."""
    ids = [bots.new() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda bot_id: calls.run(bot_id, *STUBBORN, network="none"), ids))
    for bot_id in ids:
        bots.wait_for_log(bot_id, b"ready")
    return ids


class TestSideBySide(SideBySideContract):
    """With the fixtures of the real engine."""


class TestRestart(RestartContract):
    """With the fixtures of the real engine."""
