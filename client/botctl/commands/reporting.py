"""Prints the progress and the results of commands that change bots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import RenderableType

from botctl.exit_codes import ExitCode, overall, show_error
from botctl.parallel import Result, Work, for_each
from botctl.rendering.json_documents import result_document, write_document
from botctl.rendering.unsafe_text import printable
from botctl.selection import Selected
from botctl.session import Session

NO_CONTAINER = "no container"
"""The result of stopping or removing a bot without a container."""


class Progress:
    """What is being waited for, bot by bot. Work reports it from any thread."""

    def __init__(self) -> None:
        self._show: Callable[[str], None] = lambda _: None

    def shown_by(self, show: Callable[[str], None]) -> None:
        """Show each report with this function from now on."""
        self._show = show

    def report(self, bot_id: str, message: str) -> None:
        """Report what is being waited for."""
        self._show(f"{bot_id}: {message}")


def report(
    session: Session,
    bots: Sequence[Selected],
    work: Work,
    *,
    doing: str,
    parallel: int,
    progress: Progress | None = None,
    table: Callable[[int], tuple[RenderableType, str]] | None = None,
) -> None:
    """Runs the work for every bot, prints each result as it comes, and exits with the code for all of them.

    ``progress``: the spinner also shows its last report. ``table``: a terminal shows this instead of the spinner, see
    :func:`~botctl.rendering.live.live_table`.
    With ``--output json`` the results are one document, in the order of the bots.
    """
    from botctl.rendering.console import is_live
    from botctl.rendering.live import live_table, spinner

    if not bots and not session.as_json:
        session.notice("no bot matches: nothing to do")
    results: dict[str, Result] = {}
    with ExitStack() as stack:
        if table is not None and is_live(session.err):
            stack.enter_context(live_table(session.err, table))
            update: Callable[[str], None] = lambda _: None  # noqa: E731
        else:
            update = stack.enter_context(spinner(session.err, _progress(doing, bots, 0)))
        if progress is not None:
            progress.shown_by(lambda text: update(f"{_progress(doing, bots, len(results))}; {printable(text)}"))
        for result in for_each(session, bots, work, parallel):
            results[result.bot_id] = result
            update(_progress(doing, bots, len(results)))
            _print(session, result)
    if session.as_json:
        write_document([result_document(results[bot.bot_id]) for bot in bots])
    code = overall(result.exit_code for result in results.values())
    if code is not ExitCode.DONE:
        click.get_current_context().exit(code)


def _print(session: Session, result: Result) -> None:
    if result.done and not session.as_json:
        from rich.text import Text

        remark = f" {result.remark}" if result.remark else ""
        session.out.print(Text(printable(f"{result.bot_id}  {result.done}{remark}")), soft_wrap=True)
    if result.problem is None:
        return
    show_error(f"{result.bot_id}: {result.problem.message}")
    if result.log and not session.as_json:
        session.aside("Its last log lines:")
        for line in result.log:
            session.aside(f"  {line}")


def _progress(doing: str, bots: Sequence[Selected], done: int) -> str:
    return f"{doing} {bots[0].bot_id}" if len(bots) == 1 else f"{doing} {len(bots)} bots, {done} done"
