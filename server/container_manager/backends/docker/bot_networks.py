"""Networks of bots' own: a bridge for each bot, which is made before its container and removed after it.

A bot's own network has the name of the bot's container and the two labels of the service. A network without a container
is left where a create or a removal was interrupted; the bot's next create uses it, and its removal or the next start of
the service removes it. The engine's firewall rules keep bridges apart.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from container_manager.backends.bot_container import LABEL_BOT_ID, LABEL_MANAGED
from container_manager.backends.docker.spec import DEFAULT_NETWORK
from container_manager.backends.docker.subnets import Subnets
from container_manager.config import BackendConfig
from container_manager.deadline import Deadline
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.networks import NetworkClient
from container_manager.engine.transport_errors import STATUSES_OF_PROXIES, EngineRejectedError, was_not_sent
from container_manager.errors import (
    ContainerManagerError,
    EngineTimeoutError,
    EngineUnavailableError,
    FieldViolation,
    InvalidConfigError,
    NameInUseUnmanagedError,
    reason_of,
)
from container_manager.model import BotNetwork, ContainerConfig, container_name

Json = dict[str, Any]

_BUILT_IN = (DEFAULT_NETWORK, "none")
_PAUSE_SECONDS = 5.0

_log = logging.getLogger(__name__)


def resolved(bot_id: str, config: ContainerConfig, default: BotNetwork) -> ContainerConfig:
    """The configuration with the network that the container gets."""
    return replace(config, network=config.network or _default_name(bot_id, default))


def requested(bot_id: str, config: ContainerConfig, default: BotNetwork) -> ContainerConfig:
    """The inverse, of what a container has: the configuration with the network that a create has to name."""
    network = config.network or DEFAULT_NETWORK
    return replace(config, network="" if network == _default_name(bot_id, default) else network)


class BotNetworks:
    """The networks of one engine. Safe for any number of threads."""

    def __init__(self, engine: NetworkClient, config: BackendConfig) -> None:
        self._engine = engine
        self._isolated = config.bot_network is BotNetwork.ISOLATED
        self._subnets = Subnets(engine, config.bot_network_pool, local=engine.is_local)
        self._closed = threading.Event()

    def close(self) -> None:
        """End the search for what was left, and close idle connections to the engine."""
        self._closed.set()
        self._engine.close()

    def check(self, bot_id: str, name: str, deadline: Deadline) -> None:
        """Raise :class:`InvalidConfigError` unless a bot's container may have this network."""
        if name in _BUILT_IN or name == container_name(bot_id):
            return
        try:
            network = self._engine.inspect_network(name, deadline)
        except EngineRejectedError as exc:
            # The engine also matches prefixes of ids, and several networks may share a name.
            if exc.status == HTTPStatus.BAD_REQUEST:
                raise _invalid(f"the engine does not take this name: {exc.text}") from exc
            raise engine_error(exc) from exc
        # Accept a match by name only: an id could select the host's network.
        if network is None or network["Name"] != name:
            raise _invalid(f"the engine has no network named {name}")
        if network["Driver"] in ("host", "null"):
            raise _invalid(f"{name} is not a bridge or user-defined network")
        if _is_own_of_a_bot(network):
            raise _invalid(f"{name} is the network of another bot")

    @contextmanager
    def prepared(self, bot_id: str, name: str, deadline: Deadline, unanswered: Callable[[], None]) -> Iterator[None]:
        """Make the network ``name`` if it is the bot's own; remove it again if the block raises.

        ``unanswered`` is called if the engine may still make it later.
        """
        if name != container_name(bot_id):
            yield
            return
        self._ensure(bot_id, deadline, unanswered)
        try:
            yield
        except BaseException:
            self.remove(bot_id)
            raise

    def restore(self, bot_id: str, container_id: str, deadline: Deadline) -> None:
        """Make the own network of a container anew if somebody has removed it, as ``docker network prune`` does."""
        if self._ensure(bot_id, deadline):
            try:
                self._engine.connect(container_name(bot_id), container_id)
            except BaseException as exc:
                self.remove(bot_id)
                if isinstance(exc, EngineRejectedError):
                    raise engine_error(exc, bot_id) from exc
                raise

    def remove(self, bot_id: str, *, was_own: bool = True) -> None:
        """Remove the bot's own network, unless a container has it.

        ``was_own``: the bot may have one whatever the default is. One that cannot be removed now is left for the next
        start of the service.
        """
        if not (was_own or self._isolated):
            return
        try:
            self._remove(f"{LABEL_BOT_ID}={bot_id}")
        except ContainerManagerError as exc:
            _log.warning("the network of bot %s is left for the next start of the service: %s", bot_id, reason_of(exc))

    def remove_leftovers(self) -> None:
        """Remove every bot's own network that no container has; waits for the engine until :meth:`close`.

        A network that is just being made for a container may go too. The start of that container makes it anew.
        """
        while not self._closed.is_set():
            try:
                self._remove(f"{LABEL_MANAGED}=true")
            except (EngineUnavailableError, EngineTimeoutError):
                self._closed.wait(_PAUSE_SECONDS)
            except ContainerManagerError as exc:
                _log.warning("networks without a bot are not looked for: %s", reason_of(exc))
                return
            else:
                return

    def _remove(self, label: str) -> None:
        """Remove those bots' own networks with this label that no container has."""
        try:
            for network in self._own(label, Deadline()):
                if not self._engine.has_containers(network["Name"], Deadline()):
                    self._engine.remove_network(network["Id"])
        except EngineRejectedError as exc:
            raise engine_error(exc) from exc

    def _own(self, label: str, deadline: Deadline) -> list[Json]:
        return [network for network in self._engine.list_networks(deadline, label) if _is_own_of_a_bot(network)]

    def _has_own(self, bot_id: str, deadline: Deadline) -> bool:
        return bool(self._own(f"{LABEL_BOT_ID}={bot_id}", deadline))

    def _ensure(self, bot_id: str, deadline: Deadline, unanswered: Callable[[], None] = lambda: None) -> bool:
        """Make the bot's own network unless there is one; whether it was made."""
        try:
            return not self._has_own(bot_id, deadline) and self._make(bot_id, deadline, unanswered)
        except EngineRejectedError as exc:
            raise engine_error(exc, bot_id) from exc

    def _make(self, bot_id: str, deadline: Deadline, unanswered: Callable[[], None]) -> bool:
        name = container_name(bot_id)
        labels = {LABEL_MANAGED: "true", LABEL_BOT_ID: bot_id}
        while True:
            deadline.check()
            with self._subnets.free(bot_id, deadline) as subnet:
                try:
                    if self._engine.create_bridge(name, subnet, labels):
                        return True
                except EngineRejectedError as exc:
                    if exc.status == HTTPStatus.CONFLICT:
                        return self._held(bot_id, deadline)
                    if exc.status in STATUSES_OF_PROXIES:
                        unanswered()
                    raise
                except BaseException as exc:
                    if not was_not_sent(exc):
                        unanswered()
                    raise
                self._subnets.refused(subnet)

    def _held(self, bot_id: str, deadline: Deadline) -> bool:
        """After the engine has refused the name: another call of this bot was faster, or a foreign network has it."""
        if self._has_own(bot_id, deadline):
            return False
        name = container_name(bot_id)
        if self._engine.inspect_network(name, deadline) is None:
            raise EngineUnavailableError(f"the engine still removes the network {name}; try again", bot_id=bot_id)
        raise NameInUseUnmanagedError(
            f"the name {name} is held by a network that this service did not make; remove that network by hand",
            bot_id=bot_id,
        )


def _default_name(bot_id: str, default: BotNetwork) -> str:
    return container_name(bot_id) if default is BotNetwork.ISOLATED else DEFAULT_NETWORK


def _is_own_of_a_bot(network: Json) -> bool:
    labels = network.get("Labels") or {}
    return (
        labels.get(LABEL_MANAGED) == "true"
        and bool(labels.get(LABEL_BOT_ID))
        and network["Name"] == container_name(labels[LABEL_BOT_ID])
    )


def _invalid(description: str) -> InvalidConfigError:
    return InvalidConfigError(FieldViolation("config.network", description))
