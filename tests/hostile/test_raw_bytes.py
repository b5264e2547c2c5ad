"""Bytes that are not gRPC, on the service's listeners; the short form of `make fuzz`."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.engine import PrivateEngine
from tests.fuzz.attack import Attack, attack, run
from tests.fuzz.conversations import Call, calls, conversation, encoded
from tests.fuzz.mutator import Mutator
from tests.hostile.engine_state import EngineState
from tests.support.waiting import wait_until

SEED = 20_261_124
SECONDS = 8


@pytest.fixture
def attacked(own_engine: PrivateEngine, secrets_root: Path, session_dir: Path) -> Iterator[Attack]:
    """A service process under attack."""
    directory = Path(tempfile.mkdtemp(prefix="f", dir=session_dir))
    with attack(own_engine.url, secrets_root, directory, SEED) as under_attack:
        yield under_attack


def test_it_lives_answers_at_once_and_holds_nothing_after_hostile_connections(
    attacked: Attack, engine_state: EngineState
) -> None:
    before = engine_state.picture()
    done = run(attacked, itertools.count(), SECONDS)
    assert done > 3, "there was something to see"
    assert before == engine_state.picture()


def test_the_same_seed_is_the_same_bytes() -> None:
    one, same, other = (Mutator(seed, calls()) for seed in ("1 7", "1 7", "1 8"))
    sent = [one.connection() for _ in range(50)]
    assert sent == [same.connection() for _ in range(50)]
    assert sent != [other.connection() for _ in range(50)]


def test_the_conversations_that_it_spoils_are_valid(attacked: Attack) -> None:
    """Otherwise the service would refuse all of them for one reason, and nothing else would be tested."""
    with attacked.connected(unix=True) as connection:
        connection.sendall(encoded(conversation(calls())))
        # Streams do not end, and successful reads are not logged.
        wait_until(lambda: attacked.process.log_text().count(" call ") >= 6, "every other call is logged")
    log = attacked.process.log_text()
    assert log.count("code=OK") >= 2
    assert "INVALID_ARGUMENT" not in log
    assert "UNIMPLEMENTED" not in log


def test_a_path_that_is_not_utf_8_is_refused_and_the_service_goes_on(attacked: Attack) -> None:
    with attacked.connected(unix=True) as connection:
        connection.sendall(encoded(conversation([Call(b"/\xc3\x28", b"")])))
        assert connection.recv(1)
        attacked.assert_alive()
