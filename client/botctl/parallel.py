"""Runs the same work for several bots in parallel, with one result for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

import grpc

from botctl.exit_codes import ExitCode
from botctl.problems import Problem
from botctl.selection import Selected
from botctl.session import Session


@dataclass(frozen=True)
class Result:
    """The result for one bot."""

    bot_id: str
    done: str = ""
    """What was done, in one or two words. Empty if it failed."""
    problem: Problem | None = None
    """Why it failed or, with ``done``, what failed afterwards."""
    remark: str = ""
    """What that means, for a person."""
    details: dict[str, Any] = field(default_factory=dict)
    """Further values for the JSON output."""
    log: list[str] = field(default_factory=list)
    """The last log lines of a bot that did not come up."""

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of a run for this bot alone."""
        return self.problem.exit_code if self.problem else ExitCode.DONE


Work = Callable[[Selected], Result]


def for_each(session: Session, bots: Sequence[Selected], work: Work, parallel: int) -> Iterator[Result]:
    """Yields the results as they come. Starts no further bot after Ctrl-C."""

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
        # The calls of the threads end when the session closes.
        executor.shutdown(wait=False, cancel_futures=True)
        raise
    executor.shutdown()
