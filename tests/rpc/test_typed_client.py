"""The program whose types tests/packaging/test_client_types.py checks does what it says."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

from tests.support.calls import Calls
from tests.support.memory_backend import MemoryBots

PROGRAM = Path(__file__).parents[1] / "support" / "typed_client.py"


def test_a_program_with_the_async_stubs_types_runs(target: str, calls: Calls, bots: MemoryBots) -> None:
    bot_id, other = bots.new(), str(uuid.uuid4())
    calls.create(bot_id)
    done = subprocess.run(
        [sys.executable, PROGRAM, target, other], capture_output=True, text=True, timeout=60, check=False
    )
    assert "" == done.stderr
    expected = ["1", f"{{'{bot_id}': 'CONTAINER_STATE_CREATED'}} 1 []", "CONTAINER_NOT_FOUND"]
    assert expected == done.stdout.splitlines()
