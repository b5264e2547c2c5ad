"""``botctl list`` and ``botctl status``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from botctl.bot_ids import is_bot_id, whole_ids
from botctl.options import bot_id_arguments, state_option, with_session
from botctl.outcomes import ExitCode, show_error
from botctl.rendering.documents import absent_document, status_document, write_document
from botctl.rendering.tables import containers_table, details_table, print_table
from botctl.rendering.words import now, state_named
from botctl.session import Session
from botmaker.container.v1 import container_manager_pb2 as pb


@click.command("list")
@state_option("Only those in this state. Repeatable.")
@with_session
def list_bots(session: Session, only_states: Sequence[str]) -> None:
    """List every bot that has a container, and containers that have lost their bot."""
    request = pb.ListManagedContainersRequest(states=[state_named(word) for word in only_states])
    containers = session.manager.ListManagedContainers(request).containers
    if session.as_json:
        write_document([status_document(each) for each in containers])
    elif containers or not session.out.is_terminal:
        print_table(session.out, containers_table(containers, session.out, now()))
    else:
        session.notice("no bot has a container" + (" in such a state" if only_states else ""))


@click.command()
@bot_id_arguments
@with_session
def status(session: Session, bot_ids: Sequence[str]) -> None:
    """Show all there is to know of bots' containers."""
    if not bot_ids:
        raise click.UsageError("name at least one bot; botctl list shows all")
    known: list[str] = []
    if not all(is_bot_id(text.lower()) for text in bot_ids):
        known = [each.bot_id for each in session.containers()]
    found = {bot_id: session.status(bot_id) for bot_id in whole_ids(bot_ids, known)}
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
        show_error(f"{bot_id}: has no container; make it with: botctl create {bot_id}")
    if missing:
        click.get_current_context().exit(ExitCode.NOT_FOUND)
