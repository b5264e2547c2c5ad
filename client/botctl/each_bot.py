"""The same for several bots: side by side, not too many at once, each with a result of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

import grpc

from botctl.outcomes import ExitCode
from botctl.problems import Problem
from botctl.selection import Selected
from botctl.session import Session


@dataclass(frozen=True)
class Result:
    """What became of one bot."""

    bot_id: str
    done: str = ""
    """What was done, in a word or two; empty when it failed."""
    problem: Problem | None = None
    details: dict[str, Any] = field(default_factory=dict)
    """What else a script may want to know."""
    log: list[str] = field(default_factory=list)
    """Of a bot that did not come up: its last lines."""

    @property
    def exit_code(self) -> ExitCode:
        """What this bot alone would end with."""
        return self.problem.exit_code if self.problem else ExitCode.DONE


Work = Callable[[Selected], Result]


def for_each(session: Session, bots: Sequence[Selected], work: Work, parallel: int) -> Iterator[Result]:
    """Each bot's result as it comes. After Ctrl-C no further one is begun."""

    def guarded(bot: Selected) -> Result:
        try:
            return work(bot)
        except grpc.RpcError as exc:
            return Result(bot.bot_id, problem=session.explain(exc))

    executor = ThreadPoolExecutor(min(parallel, max(len(bots), 1)))
    try:
        for future in as_completed([executor.submit(guarded, bot) for bot in bots]):
            yield future.result()
    except BaseException:
        # The threads' calls end with the session.
        executor.shutdown(wait=False, cancel_futures=True)
        raise
    executor.shutdown()
