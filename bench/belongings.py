"""What one run makes, and its removal: containers marked by the run's own label, and a scratch directory."""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bench.candidates import Setting
from bench.engine_http import EngineAnswerError, RawEngine
from container_manager.backends.docker.spec import LABEL_BOT_ID, LABEL_REQUEST_ID
from container_manager.model import ContainerConfig, container_name

# The engine may still carry out what was asked of it before an interruption.
_CLEAN_UP_SECONDS = 180
_QUIET_SECONDS = 2.0
_HTTP_NOT_FOUND = 404
_HTTP_CONFLICT = 409
# Making and removing is not what is measured.
_AT_ONCE = 6
_SLEEP = ("sleep", "86400")


class Belongings:
    """A run's id, bot ids and scratch directory. Both ``remove_…`` end it, whatever happened before."""

    def __init__(self, docker_host: str, image: str) -> None:
        self._docker_host = docker_host
        self._image = image
        self._bot_ids: set[str] = set()
        self._idle: list[str] = []
        # A request id is kept as a label and may be the same for any number of bots.
        self.run_id = f"bench-{uuid.uuid4()}"
        self.scratch = Path(tempfile.mkdtemp(prefix="botmaker-bench-"))
        self.secrets_root = self.scratch / "secrets"
        self.secrets_root.mkdir(mode=0o700)

    def setting(self, target: str, network: str = "bridge", command: tuple[str, ...] = _SLEEP) -> Setting:
        """What candidates make containers from: a process that sleeps, on ``network``."""
        config = ContainerConfig(
            image=self._image,
            ai_provider="anthropic",
            ai_model="some-model",
            channel_type="telegram",
            network=network,
            command=command,
        )
        return Setting(self._docker_host, target, str(self.secrets_root), self.run_id, config)

    def new_bot_ids(self, count: int) -> list[str]:
        """Bots of this run, each with its secrets directory."""
        fresh = [str(uuid.uuid4()) for _ in range(count)]
        for bot_id in fresh:
            (self.secrets_root / bot_id).mkdir(mode=0o700)
        self._bot_ids.update(fresh)
        return fresh

    def idle_containers(self, count: int) -> list[str]:
        """Bots whose containers are created and never started, on no network; more of them are made at need."""
        setting = self.setting("", network="none")
        missing = self.new_bot_ids(max(0, count - len(self._idle)))
        self._each(missing, lambda engine, bot_id: engine.create(container_name(bot_id), setting.body(bot_id)))
        self._idle += missing
        return self._idle[:count]

    def running_containers(self, count: int, command: tuple[str, ...]) -> list[str]:
        """Bots whose new containers run ``command``, on no network."""
        setting = self.setting("", network="none", command=command)

        def run(engine: RawEngine, bot_id: str) -> None:
            engine.create(container_name(bot_id), setting.body(bot_id))
            engine.start(container_name(bot_id))

        bot_ids = self.new_bot_ids(count)
        self._each(bot_ids, run)
        return bot_ids

    def remove_containers(self) -> int:
        """Remove every container of this run and nothing else, until no more of them appear; how many."""
        removed: set[str] = set()
        self._idle.clear()
        engine = RawEngine(self._docker_host)
        ends = time.monotonic() + _CLEAN_UP_SECONDS
        quiet_since: float | None = None
        try:
            while quiet_since is None or time.monotonic() - quiet_since < _QUIET_SECONDS:
                rows = [row for row in engine.list(f"{LABEL_REQUEST_ID}={self.run_id}") if self._is_ours(row)]
                quiet_since = (quiet_since or time.monotonic()) if not rows else None
                if time.monotonic() > ends:
                    print(
                        f"bench: {len(rows)} containers with {LABEL_REQUEST_ID}={self.run_id} are left", file=sys.stderr
                    )
                    break
                self._each([row["Id"] for row in rows], _remove)
                removed.update(row["Id"] for row in rows)
                time.sleep(0.1)
        finally:
            engine.close()
        return len(removed)

    def remove_scratch(self) -> None:
        """Remove the scratch directory."""
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _is_ours(self, row: dict[str, Any]) -> bool:
        """All three must agree; the label alone would already do."""
        bot_id = row["Labels"].get(LABEL_BOT_ID)
        return bot_id in self._bot_ids and f"/{container_name(bot_id)}" in (row["Names"] or ())

    def _each(self, items: Iterable[str], task: Callable[[RawEngine, str], Any]) -> None:
        """Do it for each, some at a time. The first failure, or Ctrl-C, lets those end that have begun."""
        waiting = deque(items)
        failures: list[BaseException] = []

        def work() -> None:
            engine = RawEngine(self._docker_host)
            try:
                while waiting and not failures:
                    try:
                        item = waiting.popleft()
                    except IndexError:
                        return
                    task(engine, item)
            except BaseException as exc:  # noqa: BLE001 - raised again below
                failures.append(exc)
            finally:
                engine.close()

        threads = [threading.Thread(target=work) for _ in range(min(_AT_ONCE, len(waiting)))]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        finally:
            waiting.clear()
            for thread in threads:
                thread.join()
        if failures:
            raise failures[0]


def _remove(engine: RawEngine, container_id: str) -> None:
    try:
        engine.remove(container_id)
    except EngineAnswerError as exc:
        # Gone meanwhile, or its removal is under way: the next look will tell.
        if exc.status not in (_HTTP_NOT_FOUND, _HTTP_CONFLICT):
            raise
