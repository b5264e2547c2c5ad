"""``botctl list``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from botctl.options import state_option, with_session
from botctl.rendering.json_documents import status_document, write_document
from botctl.rendering.tables import containers_table, print_table
from botctl.rendering.words import now, state_named
from botctl.session import Session
from botmaker.container.v1 import container_manager_pb2 as pb


@click.command("list")
@state_option("Only containers in this state. Repeatable.")
@with_session
def list_containers(session: Session, only_states: Sequence[str]) -> None:
    """List the containers of all bots, and orphans: managed containers without a bot."""
    request = pb.ListManagedContainersRequest(states=[state_named(word) for word in only_states])
    containers = session.manager.ListManagedContainers(request).containers
    if session.as_json:
        write_document([status_document(each) for each in containers])
    elif containers or not session.out.is_terminal:
        print_table(session.out, containers_table(containers, session.out, now()))
    else:
        session.notice("no bot has a container" + (" in such a state" if only_states else ""))
