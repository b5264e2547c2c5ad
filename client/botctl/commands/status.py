"""``botctl status``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from botctl.exit_codes import ExitCode, show_error
from botctl.options import bot_id_arguments, with_session
from botctl.rendering.json_documents import absent_document, status_document, write_document
from botctl.rendering.tables import details_table, print_table
from botctl.rendering.words import now
from botctl.session import Session


@click.command()
@bot_id_arguments
@with_session
def status(session: Session, bot_ids: Sequence[str]) -> None:
    """Show all details of bots' containers."""
    if not bot_ids:
        raise click.UsageError("name at least one bot; botctl list shows all")
    found = {bot_id: session.status(bot_id) for bot_id in session.whole_ids(bot_ids)}
    if session.as_json:
        write_document([status_document(each) if each else absent_document(key) for key, each in found.items()])
    else:
        moment = now()
        for index, each in enumerate(each for each in found.values() if each is not None):
            if index:
                session.out.print()
            print_table(session.out, details_table(each, moment))
    missing = [bot_id for bot_id, each in found.items() if each is None]
    for bot_id in missing:
        show_error(f"{bot_id}: has no container; create one with: botctl create {bot_id}")
    if missing:
        click.get_current_context().exit(ExitCode.NOT_FOUND)
