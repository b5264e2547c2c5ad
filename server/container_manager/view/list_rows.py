"""What a row of the engine's list says of a container that the view knows: a row has fewer fields than a status."""

from __future__ import annotations

from contextlib import suppress

from container_manager.backend import Listed, Source
from container_manager.model import ContainerStatus
from container_manager.view.live_view import Entry


def shows_the_same(row: Listed, known: ContainerStatus) -> bool:
    """Whether a container is as it is known to be, as far as the row shows."""
    listed = row.status
    return (known.state, known.name, known.health, known.ports) == (listed.state, listed.name, row.health, row.ports)


async def is_listed_as(source: Source, known: ContainerStatus) -> bool:
    """Whether the engine's list shows the container as it is known. False also if the list cannot be read."""
    with suppress(Exception):
        return any(shows_the_same(row, known) for row in await source.list(known.container_id))
    return False


def completed(row: ContainerStatus, entry: Entry | None) -> ContainerStatus:
    """The known status while the row agrees with it, else the row."""
    if entry is None or (entry.status.state, entry.status.name) != (row.state, row.name):
        return row
    return entry.status
