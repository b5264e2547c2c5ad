"""Which containers and bots the view does not answer for, because an inspection failed or has not ended."""

from __future__ import annotations

from container_manager.view.live_view import LiveView


class Doubts:
    """The view's doubts. Each lasts until an inspection that began later."""

    def __init__(self, view: LiveView) -> None:
        self._view = view
        # By key: the view's clock. A key is trusted again after an inspection that began later than this.
        self._since: dict[str, int] = {}

    def add(self, key: str, since: int) -> None:
        """Stop answering for a container or a bot."""
        self._view.doubts.add(key)
        self._since[key] = max(since, self._since.get(key, 0))

    def trust(self, key: str, began: int) -> None:
        """An inspection that began then has ended well."""
        if began > self._since.get(key, 0):
            self._view.doubts.discard(key)
            self.forget(key)

    def forget(self, key: str) -> None:
        """The container is gone."""
        self._since.pop(key, None)
