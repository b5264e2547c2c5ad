"""A gRPC server that has ended by itself ends the process, which could otherwise hang on and hear nothing."""

from __future__ import annotations

import asyncio
import os
from typing import NoReturn

import pytest

from container_manager.rpc.listener_watch import EXIT_STATUS, exit_with
from tests.support.virtual_loop import now, virtual


class EndedError(Exception):
    """Stands for the end of the process."""


class Listener:
    """As far as a server is waited for: it ends at ``second`` with what a caller sent in its error."""

    def __init__(self, second: float) -> None:
        self._second = second

    async def wait_for_termination(self, timeout_seconds: float) -> bool:
        await asyncio.sleep(timeout_seconds)
        if now() > self._second:
            raise UnicodeDecodeError("utf-8", b"secret", 0, 1, "invalid")
        return True


@pytest.mark.parametrize("later", [False, True], ids=["from the begin", "that came later"])
@virtual
async def test_any_listener_that_ends_ends_the_process(later: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "_exit", _end)
        listeners = [Listener(1000)] if later else [Listener(1000), Listener(5)]
        if later:
            asyncio.get_running_loop().call_later(1, listeners.append, Listener(5))
        with pytest.raises(EndedError) as ended:
            await exit_with(listeners)
    assert (EXIT_STATUS, True) == (ended.value.args[0], 5 < now() < 6)


def _end(status: int) -> NoReturn:
    raise EndedError(status)
