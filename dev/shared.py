"""The checkout's own engine, shared by every command that runs on it: the first starts it, the last stops it.

There are two locks in `.dev/`. A command holds `engine.lock` while it starts, joins or leaves. All commands share
`engine.users` while they use the engine, so only the last one can lock it alone.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from dev.engine import PrivateEngine, install

CHECKOUT = Path(__file__).resolve().parent.parent
_STATE = CHECKOUT / ".dev"


@contextlib.contextmanager
def shared_engine() -> Iterator[str]:
    """Use the checkout's engine, starting it if need be; yield its address.

    Raises MissingEngine where it cannot be had, EngineError where it does not start.
    """
    _STATE.mkdir(exist_ok=True)
    engine = PrivateEngine(_STATE / "engine")
    with (_STATE / "engine.users").open("w") as users:
        with _lock():
            fcntl.flock(users, fcntl.LOCK_SH)
            if not engine.running:
                install()
                engine.start()
        try:
            yield engine.url
        finally:
            with _lock():
                _leave(engine, users.fileno())


def stop_unused() -> bool:
    """Stop the engine, or clear what a crash left of it; False if a command uses it."""
    if not (_STATE / "engine").exists():
        return True
    with (_STATE / "engine.users").open("w") as users, _lock():
        return _leave(PrivateEngine(_STATE / "engine"), users.fileno())


def _leave(engine: PrivateEngine, users: int) -> bool:
    fcntl.flock(users, fcntl.LOCK_UN)
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    engine.stop()
    return True


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    descriptor = os.open(_STATE / "engine.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
