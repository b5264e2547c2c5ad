"""What one run makes, and its removal: containers marked by the run's own label, and a scratch directory."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from bench.candidates import Setting
from bench.engine_http import EngineAnswerError, RawEngine
from container_manager.engine.spec import LABEL_BOT_ID, LABEL_REQUEST_ID, container_name
from container_manager.model import ContainerConfig

# The engine may still carry out what was asked of it before an interruption.
_CLEAN_UP_SECONDS = 120
_QUIET_SECONDS = 2.0
_HTTP_NOT_FOUND = 404
_HTTP_CONFLICT = 409


class Belongings:
    """A run's id, bot ids and scratch directory. :meth:`remove` ends it, whatever happened before."""

    def __init__(self, docker_host: str, image: str) -> None:
        self._docker_host = docker_host
        self._image = image
        self._bot_ids: set[str] = set()
        # A request id is kept as a label and may be the same for any number of bots.
        self.run_id = f"bench-{uuid.uuid4()}"
        self.scratch = Path(tempfile.mkdtemp(prefix="botmaker-bench-"))
        self.secrets_root = self.scratch / "secrets"
        self.secrets_root.mkdir(mode=0o700)

    def setting(self, target: str, network: str = "bridge") -> Setting:
        """What candidates make containers from: a process that sleeps, on ``network``."""
        config = ContainerConfig(
            image=self._image,
            ai_provider="anthropic",
            ai_model="some-model",
            channel_type="telegram",
            network=network,
            command=("sleep", "86400"),
        )
        return Setting(self._docker_host, target, str(self.secrets_root), self.run_id, config)

    def new_bot_ids(self, count: int) -> list[str]:
        """Bots of this run, each with its secrets directory."""
        fresh = [str(uuid.uuid4()) for _ in range(count)]
        for bot_id in fresh:
            (self.secrets_root / bot_id).mkdir(mode=0o700)
        self._bot_ids.update(fresh)
        return fresh

    def remove_containers(self) -> int:
        """Remove every container of this run and nothing else, until no more of them appear; how many."""
        engine = RawEngine(self._docker_host)
        removed: set[str] = set()
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
                for row in rows:
                    _remove(engine, row["Id"])
                    removed.add(row["Id"])
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
        return bot_id in self._bot_ids and f"/{container_name(bot_id)}" in row["Names"]


def _remove(engine: RawEngine, container_id: str) -> None:
    try:
        engine.remove(container_id)
    except EngineAnswerError as exc:
        # Gone meanwhile, or its removal is under way: the next look will tell.
        if exc.status not in (_HTTP_NOT_FOUND, _HTTP_CONFLICT):
            raise
