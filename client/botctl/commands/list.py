"""``botctl list``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from botctl.options import label_option, once, state_option, with_session
from botctl.rendering.json_documents import status_document, write_document
from botctl.rendering.words import now, state_named
from botctl.session import Session
from botmaker.container.v1 import container_manager_pb2 as pb


@click.command("list")
@state_option("Only containers in this state. Repeatable.")
@label_option("Only containers with this label. Repeatable: with all of them.")
@with_session
def list_containers(session: Session, only_states: Sequence[str], labels: Sequence[tuple[str, str]]) -> None:
    """List the containers of all bots, and orphans: managed containers without a bot."""
    states = [state_named(word) for word in only_states]
    request = pb.ListManagedContainersRequest(states=states, labels=once("--label", labels))
    containers = session.manager.ListManagedContainers(request).containers
    if session.as_json:
        write_document([status_document(each) for each in containers])
    elif containers or not session.out.is_terminal:
        # Documents need no rich, which takes a quarter of the start.
        from botctl.rendering.tables import containers_table, print_table

        print_table(session.out, containers_table(containers, session.out, now()))
    else:
        session.notice("no bot has such a container" if only_states or labels else "no bot has a container")
