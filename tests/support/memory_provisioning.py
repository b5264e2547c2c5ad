"""Secrets and files in memory: see :mod:`tests.support.memory_backend`."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from container_manager.model import SecretInfo
from tests.support.memory_store import MemoryStore


class MemorySecrets:
    """Each bot's secrets by name, each with its time."""

    def __init__(self, store: MemoryStore) -> None:
        self.of_bots: dict[str, dict[str, tuple[bytes, int]]] = {}
        self._store = store

    def put_secrets(self, bot_id: str, secrets: Mapping[str, bytes], *, replace_all: bool = False) -> None:
        self._store.pass_step("put_secrets", bot_id)
        before = {} if replace_all else self.of_bots.get(bot_id, {})
        self.of_bots[bot_id] = {**before, **{name: (value, time.time_ns()) for name, value in secrets.items()}}

    def list_secrets(self, bot_id: str) -> list[SecretInfo]:
        self._store.pass_step("list_secrets", bot_id)
        return sorted(SecretInfo(name, len(value), at) for name, (value, at) in self.of_bots.get(bot_id, {}).items())

    def delete_secrets(self, bot_id: str, names: Collection[str]) -> None:
        self._store.pass_step("delete_secrets", bot_id)
        for name in names:
            self.of_bots.get(bot_id, {}).pop(name, None)

    def delete_all_secrets(self, bot_id: str) -> None:
        self._store.pass_step("delete_all_secrets", bot_id)
        self.of_bots.pop(bot_id, None)

    def remove_leftovers(self) -> None:
        """Nothing is left in memory."""


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
