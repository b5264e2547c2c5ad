"""Runs declared actions in bots' containers: one a bot at a time, bounded in time and output, and logged."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import structlog

from container_manager.actions import READY, SECRETS_RELOAD, Action, DeclaredActions, bounded
from container_manager.backend import Backend
from container_manager.deadline import Deadline
from container_manager.errors import CapacityExceededError, ContainerManagerError
from container_manager.maintenance.action_output import ActionOutput, Piece
from container_manager.maintenance.bot_status import BotStatuses
from container_manager.model import ContainerStatus
from container_manager.operation import Operation
from container_manager.provisioning.overtakable import overtakable
from container_manager.scheduling.bot_operations import BotOperations
from container_manager.scheduling.worker_pools import WorkerPool

SECONDS = 60
"""How long an action may run."""
# For `timeout` to kill a program that ignores SIGTERM, and for the engine.
_MORE_SECONDS = 15.0
# One runs at a time, and may hang. They count against a limit for all bots.
_CALLS_OF_ONE_BOT = 4
# Those of `timeout` and of its signals, coreutils' and busybox's.
_TIMED_OUT = (124, 137, 143)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ActionEnd:
    """How an action ended."""

    exit_code: int
    timed_out: bool
    omitted_bytes: int
    """Of output, beyond what is passed on."""


class _Ended(NamedTuple):
    exit_code: int
    seconds: float


class ActionRunner:
    """For the event loop.

    An action goes on when its caller goes away, and keeps its turn. It takes no turn of the bot's changes, so that a
    bot can be stopped while it runs. The exception is the reload of secrets: what it has to know of them must not
    change meanwhile.
    """

    def __init__(
        self, backend: Backend, operations: BotOperations, statuses: BotStatuses, actions: DeclaredActions
    ) -> None:
        self._backend = backend
        self._operations = operations
        self._statuses = statuses
        self._actions = actions
        self._calls: Counter[str] = Counter()

    async def run(
        self,
        bot_id: str,
        name: str,
        values: Sequence[str],
        deadline: Deadline,
        on_end: Callable[[], None] = lambda: None,
    ) -> AsyncGenerator[Piece | ActionEnd, None]:
        """The pieces of output as they come, and then the end. ``on_end``: the program has ended.

        Raises :class:`ActionNotAllowedError`, :class:`CapacityExceededError` if the bot has many calls already, and the
        errors of :meth:`BotStatuses.require` and ``Actions.run``.
        """
        with self._counted(bot_id):
            container = await self._statuses.require(bot_id, deadline)
            action = self._actions.require(name, container)
            command = await self._command(action, bot_id, values, deadline)
            output = ActionOutput(asyncio.get_running_loop())
            program = partial(self._run, container, action, command, output)
            work = asyncio.ensure_future(self._in_turn(container, name, program, deadline))
            work.add_done_callback(lambda _: output.close())
            work.add_done_callback(lambda _: on_end())
            try:
                async for piece in output.pieces():
                    yield piece
                ended = await work
            finally:
                work.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await work
            timed_out = ended.exit_code in _TIMED_OUT and ended.seconds >= SECONDS
            yield ActionEnd(ended.exit_code, timed_out, output.omitted_bytes)

    @contextmanager
    def _counted(self, bot_id: str) -> Iterator[None]:
        """Count a call of a bot, so that those of one that hangs leave places to other bots."""
        if self._calls[bot_id] >= _CALLS_OF_ONE_BOT:
            raise CapacityExceededError(
                f"{_CALLS_OF_ONE_BOT} actions of this bot run or wait already; try again later", bot_id=bot_id
            )
        self._calls[bot_id] += 1
        try:
            yield
        finally:
            self._calls[bot_id] -= 1
            if not self._calls[bot_id]:
                del self._calls[bot_id]

    async def _command(self, action: Action, bot_id: str, values: Sequence[str], deadline: Deadline) -> tuple[str, ...]:
        if action.arguments:
            key = f"the arguments of bot {bot_id}'s actions"
            command = await self._operations.read(key, lambda _: action.command_with(values), deadline)
        else:
            command = action.command_with(values)
        return bounded(command, SECONDS)

    async def _in_turn(
        self, container: ContainerStatus, name: str, program: Callable[[bytes], _Ended], deadline: Deadline
    ) -> _Ended:
        """``program`` takes its standard input."""
        bot_id, secrets = container.bot_id, self._backend.secrets
        submit = partial(self._operations.workers.submit, WorkerPool.RELOAD)

        def act(_: Deadline) -> _Ended:
            return program(b"")

        def reload(deadline: Deadline) -> Operation[_Ended]:
            token = secrets.token_of_run(bot_id, container.start_time_ns or 0)
            run = partial(program, token)
            ended: _Ended = yield from overtakable(submit, bot_id, run, SECONDS + _MORE_SECONDS, deadline)
            if ended.exit_code == 0:
                secrets.forget_token(bot_id)
            return ended

        if name == SECRETS_RELOAD:
            return await self._operations.change(WorkerPool.CHANGE, bot_id, reload, deadline)
        return await self._operations.act(bot_id, act, deadline)

    def _run(
        self,
        container: ContainerStatus,
        action: Action,
        command: Sequence[str],
        output: ActionOutput,
        stdin: bytes,
    ) -> _Ended:
        """Runs in a thread."""
        bot_id = container.bot_id
        began = time.monotonic()
        log = _log.bind(action=action.name, bot_id=bot_id, container_id=container.container_id)
        try:
            result = self._backend.actions.run(
                container.container_id, command, stdin=stdin, seconds=SECONDS + _MORE_SECONDS, on_output=output.add
            )
        except ContainerManagerError as exc:
            log.info("an action has failed", reason=exc.reason)
            raise
        seconds = time.monotonic() - began
        # A caller that waits until the bot is ready runs this one every other second.
        level = logging.DEBUG if action.name == READY else logging.INFO
        log.log(level, "an action has ended", exit_code=result.exit_code, seconds=round(seconds, 3))
        return _Ended(result.exit_code, seconds)
