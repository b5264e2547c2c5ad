"""Which user of this host a user of the engine's containers is."""

from __future__ import annotations

from container_manager.bot_directories import BotUser
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.engine.user_namespace import UserNamespace
from container_manager.errors import EngineAccessDeniedError, EngineTimeoutError, EngineUnavailableError

_ASK_SECONDS = 5.0


class HostUser:
    """Adds the base of the engine's user namespace, if it has one. Usable from any number of threads."""

    def __init__(self, engine: EngineClient) -> None:
        self._engine = engine
        self._asked = False
        self._last: UserNamespace | None = None

    def __call__(self, user: BotUser) -> BotUser:
        """The user on this host. Of an engine that does not answer now, what it last said.

        Raises :class:`EngineUnavailableError`, :class:`EngineTimeoutError` or :class:`EngineAccessDeniedError` if it
        has not answered yet: files for the wrong user would be of no use to the bot.
        """
        try:
            self._last = self._engine.user_namespace(Deadline(_ASK_SECONDS))
            self._asked = True
        except (EngineUnavailableError, EngineTimeoutError, EngineAccessDeniedError):
            if not self._asked:
                raise
        return user if self._last is None else self._last.on_host(user)
