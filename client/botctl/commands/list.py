"""``botctl list``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from botctl.filters import Filters
from botctl.options import label_option, state_option, with_session
from botctl.param_types import FILTER
from botctl.rendering.cells import aligned, container_rows
from botctl.rendering.json_documents import status_document, write_document
from botctl.rendering.template import check_template, fill
from botctl.rendering.terminal import is_terminal
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
    elif containers or not is_terminal(sys.stdout):
        _print_table(session, containers, _disk_use(session, containers) if wide else None)
    else:
        session.notice("no bot has such a container" if wanted else "no bot has a container")


def _print_table(
    session: Session,
    containers: Sequence[pb.ContainerStatus],
    disk: dict[str, observer_pb.ContainerStats] | None,
) -> None:
    if is_terminal(sys.stdout):
        # Only a terminal needs rich, which takes a fifth of the run.
        from botctl.rendering.tables import containers_table

        session.out.print(containers_table(containers, session.out, now(), disk))
        return
    ids = {each.bot_id: each.bot_id for each in containers if each.bot_id}
    lines = aligned(*container_rows(containers, ids, now(), disk))
    sys.stdout.writelines(f"{line}\n" for line in lines)


def _disk_use(session: Session, containers: Sequence[pb.ContainerStatus]) -> dict[str, observer_pb.ContainerStats]:
    """What the running ones of these containers occupy, by container id."""
    bot_ids = {each.bot_id for each in containers if each.bot_id and each.state == pb.CONTAINER_STATE_RUNNING}
    if not bot_ids:
        return {}
    from botmaker.container.v1.container_observer_pb2 import GetStatsRequest

    found = session.observer.GetStats(GetStatsRequest(bot_ids=sorted(bot_ids))).containers
    return {each.container_id: each for each in found}
