"""Prints the progress and the results of commands that change bots."""

from __future__ import annotations

from collections.abc import Sequence

import click

from botctl.exit_codes import ExitCode, overall, show_error
from botctl.parallel import Result, Work, for_each
from botctl.rendering.json_documents import result_document, write_document
from botctl.rendering.live import spinner
from botctl.rendering.words import printable
from botctl.selection import Selected
from botctl.session import Session

NO_CONTAINER = "no container"
"""The result of stopping or removing a bot without a container."""


def report(session: Session, bots: Sequence[Selected], work: Work, *, doing: str, parallel: int) -> None:
    """Runs the work for every bot, prints each result as it comes, and exits with the code for all of them.

    With ``--output json`` the results are one document, in the order of the bots.
    """
    if not bots and not session.as_json:
        session.notice("no bot matches: nothing to do")
    results = {}
    with spinner(session.err, _progress(doing, bots, 0)) as update:
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
    if result.problem is None:
        if not session.as_json:
            session.out.print(f"{result.bot_id}  {result.done}", soft_wrap=True)
        return
    show_error(f"{result.bot_id}: {result.problem.message}")
    if result.log and not session.as_json:
        session.aside("Its last log lines:")
        for line in result.log:
            session.aside(f"  {printable(line)}")


def _progress(doing: str, bots: Sequence[Selected], done: int) -> str:
    return f"{doing} {bots[0].bot_id}" if len(bots) == 1 else f"{doing} {len(bots)} bots, {done} done"
