"""``botctl list``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from botctl.filters import Filters
from botctl.options import label_option, state_option, with_session
from botctl.param_types import FILTER
from botctl.rendering.json_documents import status_document, write_document
from botctl.rendering.template import check_template, fill
from botctl.rendering.words import now
from botctl.session import Session
from botmaker.container.v1 import container_manager_pb2 as pb

if TYPE_CHECKING:
    from botmaker.container.v1 import container_observer_pb2 as observer_pb

Pairs = Sequence[tuple[str, str]]


@click.command("list")
@state_option("Only containers in this state. Repeatable.")
@label_option("Only containers with this label. Repeatable: with all of them.")
@click.option(
    "--filter",
    "-f",
    "filters",
    type=FILTER,
    multiple=True,
    metavar="KEY=VALUE",
    help="Only label=KEY=VALUE, label=KEY, state=STATE or hostname=NAME, with * for any characters. Repeatable.",
)
@click.option("--quiet", "-q", is_flag=True, help="Only the bots' ids, one per line.")
@click.option(
    "--format",
    "template",
    metavar="TEMPLATE",
    help="A line for each container, such as '{bot_id} {state} {labels.team}', with the fields of the JSON output.",
)
@click.option("--wide", is_flag=True, help="Also what running bots occupy on the disk.")
@with_session
def list_containers(
    session: Session,
    *,
    only_states: Sequence[str],
    labels: Pairs,
    filters: Pairs,
    quiet: bool,
    template: str | None,
    wide: bool,
) -> None:
    """List the containers of all bots, and orphans: managed containers without a bot."""
    if (quiet, template is not None, session.as_json, wide).count(True) > 1:
        raise click.UsageError("give only one of --quiet, --format, --wide and --output")
    if template is not None:
        check_template(template)
    wanted = Filters.read(filters, only_states, labels)
    listed = session.manager.ListManagedContainers(wanted.request()).containers
    containers = [each for each in listed if wanted.matches(each)]
    if session.as_json:
        write_document([status_document(each) for each in containers])
    elif quiet:
        for bot_id in dict.fromkeys(each.bot_id for each in containers if each.bot_id):
            click.echo(bot_id)
    elif template is not None:
        for each in containers:
            click.echo(fill(template, each))
    elif containers or not session.out.is_terminal:
        # Documents need no rich, which takes a quarter of the start.
        from botctl.rendering.tables import containers_table, print_table

        disk = _disk_use(session, containers) if wide else None
        print_table(session.out, containers_table(containers, session.out, now(), disk))
    else:
        session.notice("no bot has such a container" if wanted else "no bot has a container")


def _disk_use(session: Session, containers: Sequence[pb.ContainerStatus]) -> dict[str, observer_pb.ContainerStats]:
    """What the running ones of these containers occupy, by container id."""
    bot_ids = {each.bot_id for each in containers if each.bot_id and each.state == pb.CONTAINER_STATE_RUNNING}
    if not bot_ids:
        return {}
    from botmaker.container.v1.container_observer_pb2 import GetStatsRequest

    found = session.observer.GetStats(GetStatsRequest(bot_ids=sorted(bot_ids))).containers
    return {each.container_id: each for each in found}
