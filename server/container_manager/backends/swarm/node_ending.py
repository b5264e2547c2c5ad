"""How a bot's container is ended: by the swarm, or sooner or later than that by its node's own engine.

A task keeps the grace period that it was created with. Another one is possible only where the operator has named the
engine of the container's node; there a call with a shorter one also ends a grace period that is under way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from container_manager.backends.swarm.bot_services import BotServices, of_node
from container_manager.backends.swarm.service_spec import grace_of, not_supported
from container_manager.backends.swarm.status import is_down
from container_manager.backends.swarm.tasks import container_of, newest_running
from container_manager.deadline import Deadline
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.long_calls import LongCalls
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import EngineTimeoutError, EngineUnavailableError
from container_manager.operation import GracePeriod, Operation, Wait

Json = dict[str, Any]

_SERVER_ERROR = 500


@dataclass(frozen=True)
class Ending:
    """The end of one container that may run."""

    bot_id: str
    container_id: str
    own_seconds: int
    """The grace period that the swarm gives it."""
    grace_seconds: int
    """The one that it is to have."""
    calls: LongCalls | None = None
    """To its node's engine, if the operator has named it."""

    def outlast(self) -> Operation[None]:
        """If its grace period is longer than the swarm's own, let the node's engine end it before the swarm does."""
        if self.calls is None or self.grace_seconds <= self.own_seconds:
            return
        stopped = self.calls.stop_container(self.container_id, self.grace_seconds)
        wait = self.wait(stopped)
        while not stopped.done():
            yield wait
        try:
            stopped.result()
        except EngineRejectedError as exc:
            # Below, it has ended meanwhile.
            if exc.status >= _SERVER_ERROR:
                raise engine_error(exc, self.bot_id) from exc
        except (EngineUnavailableError, EngineTimeoutError):
            # Its engine or its node is lost: the swarm ends it, with its own grace period, as soon as it can.
            return

    def hurry(self) -> None:
        """If its grace period is shorter than the swarm's own, have the node's engine end it sooner."""
        if self.calls is not None and self.grace_seconds < self.own_seconds:
            # Should that engine not do it, the swarm does.
            self.calls.stop_container(self.container_id, self.grace_seconds)

    def wait(self, ended: Future[None]) -> Wait:
        """The wait for the container's end, which another call may end early where the node's engine is named."""
        if self.calls is None:
            return Wait(future=ended)
        calls, container_id = self.calls, self.container_id
        kill: Callable[[], Future[None]] = lambda: calls.kill_container(container_id)  # noqa: E731
        return GracePeriod(future=ended, grace_seconds=self.grace_seconds, kill=kill)


class NodeEnding:
    """Of the nodes of one swarm, for any number of threads."""

    def __init__(self, services: BotServices, calls: Mapping[str, LongCalls], *, accepts_other: bool) -> None:
        """``calls``: to nodes' own engines, by the nodes' host names. ``accepts_other``: the operator accepts that a
        container keeps its own grace period where its node has none.
        """
        self._services = services
        self._calls = calls
        self._accepts_other = accepts_other

    def close(self) -> None:
        """Close all connections."""
        for calls in self._calls.values():
            calls.close()

    def of(self, tasks: Sequence[Json], grace_seconds: int | None, bot_id: str) -> Ending | None:
        """The end of the container that may run among these tasks; ``None``: none does.

        ``grace_seconds``: ``None``: the container's own. Raises :class:`NotSupportedByBackendError` where another one
        is not possible.
        """
        task = newest_running(tasks)
        if task is None:
            return None
        container_id = container_of(task)
        own = grace_of(task["Spec"])
        node_id = task.get("NodeID", "")
        name = self._services.node_name(node_id)
        calls = of_node(self._calls, node_id, name)
        if grace_seconds is None or grace_seconds == own:
            return Ending(bot_id, container_id, own, own, calls)
        if calls is None and not self._accepts_other:
            raise not_supported(
                "grace_period",
                f"the bot's grace period is {own} s, and only its node's own engine could give another: name it with "
                f"--node-engine {name}=URL, or accept it with --allow-weaker grace-period",
            )
        if grace_seconds > own and is_down(self._services.nodes(Deadline()).get(node_id, {})):
            # Only the swarm can end it once its node is back.
            return Ending(bot_id, container_id, own, own)
        return Ending(bot_id, container_id, own, own if calls is None else grace_seconds, calls)
