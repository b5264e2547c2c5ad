"""A service process on a private engine, with foreign containers beside its bots, for tests of faults.

:meth:`FaultyWorld.settled` states what must hold after every fault.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import docker

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager_client import connect
from dev.engine import PrivateEngine
from tests.support.bots import Bots
from tests.support.calls import FOREVER, Calls, fails_with
from tests.support.engine_truth import engines_own, without_last_exits
from tests.support.foreign import ForeignContainers
from tests.support.ledger import UNKNOWN
from tests.support.mixed_calls import MixedCalls
from tests.support.recorded_calls import Recorder
from tests.support.serving import ServerProcess
from tests.support.waiting import wait_until

RECOVERY_SECONDS = 2.0
"""Counted from when the engine, or the service's process, answers again."""
CALL_SECONDS = 20.0


class FaultyWorld:
    """Created by :func:`faulty_world`."""

    def __init__(self, engine: PrivateEngine, image: str, directory: Path, bots: Bots, options: Sequence[str]) -> None:
        self.engine = engine
        self.docker = bots.engine
        self.bots = bots
        self.socket = directory / "run" / "s.sock"
        self.target = f"unix://{self.socket}"
        self.recorder = Recorder()
        self.engine_was_down = False
        """Tests set this when they take the engine down, which stops foreign containers."""
        self._log = directory / "log"
        self._options = (
            *("--listen", self.target),
            *("--docker-host", engine.url),
            *("--secrets-root", str(bots.secrets_root)),
            *("--default-image", image),
            *options,
        )
        # Bots outside the mix: one whose labels containers of other names carry, and one whose name is occupied.
        self.bot_ids = [bots.new() for _ in range(24)]
        self.forged_bot_id, self.held_bot_id = bots.new(), bots.new()
        self.foreign = ForeignContainers(self.docker, image, self.forged_bot_id, self.held_bot_id)
        self.service = self.serve()

    def serve(self, *, prefix: Sequence[str] = ()) -> ServerProcess:
        """Start the service, and wait until it listens. ``prefix``: as for :class:`ServerProcess`."""
        self.service = ServerProcess(self._options, self._log, prefix=prefix)
        assert self.service.line, self.service.log_text()
        return self.service

    def mix(self, seed: str, *, callers: int = 6, seconds: float = CALL_SECONDS) -> MixedCalls:
        """A mix of operations on the bots."""
        return MixedCalls(seed, self.target, self.recorder, self.bot_ids, callers=callers, seconds=seconds)

    @contextmanager
    def channel_stub(self) -> Iterator[ContainerManagerStub]:
        """A stub on a new channel."""
        with connect(self.target) as channel:
            yield ContainerManagerStub(channel)

    def awaited_done(self, calls: int) -> None:
        """Wait until this many more calls have ended, so that the fault occurs under load."""
        enough = len(self.recorder.outcomes) + calls
        wait_until(lambda: len(self.recorder.outcomes) >= enough, f"{calls} further calls", 60)

    def settled(self, entries: Mapping[str, str | None], *, wrong: Sequence[str] = ()) -> int:
        """Assert no wrong answer, and no doubled, leaked or touched foreign container; returns how many are lost.

        ``entries``: the container that each bot must have, according to the answers of its calls.
        """
        told = [*self.recorder.wrong, *wrong]
        assert not told, "\n".join(told)
        assert "Traceback" not in self.service.log_text()
        with connect(self.target) as channel:
            calls = Calls(ContainerManagerStub(channel))
            wait_until(
                lambda: without_last_exits(calls.list()) == engines_own(self.docker),
                "every field of the list is the engine's own",
            )
            listed = calls.list()
            lost = self._check(entries, listed)
            touched = self.foreign.touched(engine_was_down=self.engine_was_down)
            assert not touched, "\n".join(touched)
            self._next_creates(calls)
        return lost

    def _check(self, entries: Mapping[str, str | None], listed: Sequence[pb.ContainerStatus]) -> int:
        ours = [each for each in listed if each.container_id not in self.foreign.forged_ids]
        by_bot = {each.bot_id: each.container_id for each in ours}
        assert len(by_bot) == len(ours), f"doubled: {sorted(each.bot_id for each in ours)}"
        assert {f"botmaker-{bot_id}" for bot_id in by_bot} == {each.name for each in ours}
        leaked = set(by_bot) - {bot_id for bot_id, entry in entries.items() if entry is not None}
        assert set() == leaked, f"leaked: {leaked}"
        known = {bot_id: entry for bot_id, entry in entries.items() if entry not in (None, UNKNOWN)}
        lost = [bot_id for bot_id, entry in known.items() if by_bot.get(bot_id) != entry]
        for bot_id in lost:
            sys.stdout.write(f"lost {known[bot_id]}, there is {by_bot.get(bot_id)}:\n{self.recorder.history(bot_id)}\n")
        return len(lost)

    def _next_creates(self, calls: Calls) -> None:
        with fails_with("FAILED_PRECONDITION", "CONTAINER_NAME_MISMATCH"):
            calls.remove(self.forged_bot_id, grace=0)
        for bot_id in self.bot_ids:
            calls.remove(bot_id, grace=0)
            made = calls.create(bot_id, *FOREVER, network="none")
            status = calls.status(bot_id)
            assert status is not None
            assert (made, pb.CONTAINER_STATE_CREATED) == (status.container_id, status.state)
        calls.start(self.bot_ids[0])
        for bot_id in self.bot_ids:
            calls.remove(bot_id, grace=0)
        assert self.foreign.forged_ids == {each.container_id for each in calls.list()}

    def close(self) -> None:
        """Stop the service and remove the foreign containers."""
        self.service.close()
        # Shown for a test that has failed.
        sys.stdout.write(self.service.log_text()[-20_000:])
        self.foreign.remove()


@contextmanager
def faulty_world(
    engine: PrivateEngine, image: str, directory: Path, secrets_root: Path, options: Sequence[str] = ()
) -> Iterator[FaultyWorld]:
    """The service on the engine; asserts at the end that no container is left there."""
    client = docker.DockerClient(base_url=engine.url, version="auto")
    bots = Bots(client, secrets_root)
    try:
        world = FaultyWorld(engine, image, directory, bots, options)
        try:
            yield world
        finally:
            world.close()
    finally:
        bots.remove_all()
        left = [row["Names"] for row in client.api.containers(all=True)]
        client.close()
    assert not left, left


def recovery(begun: float, seconds: float) -> float:
    """The ``seconds`` of a recovery since ``begun``; asserts at most twice the limit, for busy machines."""
    assert seconds <= 2 * RECOVERY_SECONDS, f"{seconds:.2f} s, {time.monotonic() - begun:.2f} s ago"
    return seconds
