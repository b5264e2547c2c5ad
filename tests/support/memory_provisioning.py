"""Secrets and files in memory: see :mod:`tests.support.memory_backend`."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence

from container_manager.backend_provisioning import ActionResult, OnOutput
from container_manager.errors import InvalidStateError
from container_manager.model import ContainerState, LogSource, SecretInfo
from tests.support.memory_store import MemoryStore


class MemorySecrets:
    """Each bot's secrets by name, each with its time."""

    def __init__(self, store: MemoryStore) -> None:
        self.of_bots: dict[str, dict[str, tuple[bytes, int]]] = {}
        self.kept: dict[str, tuple[int, bytes]] = {}
        """The token that a run of the bot's process has loaded, by the bot, with that run."""
        self._store = store

    def put_secrets(
        self, bot_id: str, secrets: Mapping[str, bytes], *, replace_all: bool = False, run: int | None = None
    ) -> None:
        self._store.pass_step("put_secrets", bot_id)
        if replace_all or "GATEWAY_TOKEN" in secrets:
            self._keep(bot_id, run)
        before = {} if replace_all else self.of_bots.get(bot_id, {})
        self.of_bots[bot_id] = {**before, **{name: (value, time.time_ns()) for name, value in secrets.items()}}

    def token_of_run(self, bot_id: str, run: int) -> bytes:
        kept_for, token = self.kept.get(bot_id, (None, b""))
        return token if kept_for == run else b""

    def forget_token(self, bot_id: str) -> None:
        self._store.pass_step("forget_token", bot_id)
        self.kept.pop(bot_id, None)

    def may_keep_token(self, bot_id: str) -> bool:
        return bot_id in self.kept

    def read_secrets(self, bot_id: str) -> Mapping[str, bytes]:
        self._store.pass_step("read_secrets", bot_id)
        return {name: value for name, (value, _) in self.of_bots.get(bot_id, {}).items()}

    def list_secrets(self, bot_id: str) -> list[SecretInfo]:
        self._store.pass_step("list_secrets", bot_id)
        return sorted(SecretInfo(name, len(value), at) for name, (value, at) in self.of_bots.get(bot_id, {}).items())

    def delete_secrets(self, bot_id: str, names: Collection[str], *, run: int | None = None) -> None:
        self._store.pass_step("delete_secrets", bot_id)
        if "GATEWAY_TOKEN" in names:
            self._keep(bot_id, run)
        for name in names:
            self.of_bots.get(bot_id, {}).pop(name, None)

    def delete_all_secrets(self, bot_id: str) -> None:
        self._store.pass_step("delete_all_secrets", bot_id)
        self.of_bots.pop(bot_id, None)

    def remove_leftovers(self) -> None:
        """Nothing is left in memory."""

    def _keep(self, bot_id: str, run: int | None) -> None:
        token, _ = self.of_bots.get(bot_id, {}).get("GATEWAY_TOKEN", (b"", 0))
        if not token or self.token_of_run(bot_id, run or 0):
            return
        self.kept.pop(bot_id, None)
        if run is not None:
            self.kept[bot_id] = (run, token)


class MemoryActions:
    """Programs that print what the test says."""

    def __init__(self, store: MemoryStore) -> None:
        self.result = ActionResult(0, b'{"confirmed": ["GATEWAY_TOKEN"]}', b"")
        """How the next ones end."""
        self.runs: list[tuple[str, tuple[str, ...], bytes]] = []
        """The container's id, the command and the standard input of each."""
        self.program: Callable[[OnOutput], int] | None = None
        """What the next ones do instead, in the worker's thread."""
        self._store = store

    def run(
        self,
        container_id: str,
        command: Sequence[str],
        *,
        stdin: bytes = b"",
        seconds: float,  # noqa: ARG002
        on_output: OnOutput | None = None,
    ) -> ActionResult:
        status = self._store.containers[container_id].status
        if status.state is not ContainerState.RUNNING:
            raise InvalidStateError("no program can run in the container", bot_id=status.bot_id)
        self._store.pass_step("run_action", status.bot_id)
        self.runs.append((container_id, tuple(command), stdin))
        receive = on_output or (lambda *_: None)
        if self.program is not None:
            return ActionResult(self.program(receive), b"", b"")
        for source, data in ((LogSource.STDOUT, self.result.stdout), (LogSource.STDERR, self.result.stderr)):
            if data:
                receive(source, data)
        return self.result


class MemoryFiles:
    """Each bot's files by path."""

    def __init__(self, store: MemoryStore) -> None:
        self.of_bots: dict[str, dict[str, bytes]] = {}
        self._store = store

    def put_files(self, bot_id: str, files: Mapping[str, bytes]) -> None:
        self._store.pass_step("put_files", bot_id)
        self.of_bots[bot_id] = {**self.of_bots.get(bot_id, {}), **files}

    def delete_state(self, bot_id: str) -> None:
        self._store.pass_step("delete_state", bot_id)
        self.of_bots.pop(bot_id, None)

    def remove_leftovers(self) -> None:
        """Nothing is left in memory."""
