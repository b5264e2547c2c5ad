"""Converts between the messages of ContainerMaintainer and the domain's values."""

from __future__ import annotations

from botmaker.container.v1 import container_maintainer_pb2 as pb
from container_manager.maintenance.action_output import Piece
from container_manager.maintenance.action_runner import ActionEnd
from container_manager.model import LogSource


def action_event_to_proto(event: Piece | ActionEnd) -> pb.RunActionResponse:
    """One event of an action."""
    if isinstance(event, Piece):
        if event.source is LogSource.STDERR:
            return pb.RunActionResponse(stderr=event.data)
        return pb.RunActionResponse(stdout=event.data)
    return pb.RunActionResponse(
        end=pb.ActionEnd(exit_code=event.exit_code, timed_out=event.timed_out, omitted_bytes=event.omitted_bytes)
    )
