"""Runs actions in bots."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import grpc

from botctl.waiting import Probed
from botmaker.container.v1 import container_maintainer_pb2 as pb
from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub
from container_manager_client import error_info

# The server ends an action after 60 s. It may wait for another one of the bot first.
ACTION_SECONDS = 180.0
_PROBE_SECONDS = 30.0
_NOT_DECLARED = "its image has neither a health check nor the action ready"
_NOT_SERVED = "the service runs no actions for this address, so that nothing more is known"


def run_action(
    maintainer: ContainerMaintainerStub,
    bot_id: str,
    action: str,
    arguments: Sequence[str] = (),
    *,
    on_output: Callable[[pb.RunActionResponse], None],
    timeout: float = ACTION_SECONDS,
) -> pb.ActionEnd:
    """How the action ended. ``on_output`` receives each piece of its output."""
    request = pb.RunActionRequest(bot_id=bot_id, action=action, arguments=arguments)
    end = pb.ActionEnd()
    for event in maintainer.RunAction(request, timeout=timeout):
        if event.HasField("end"):
            end = event.end
        else:
            on_output(event)
    return end


def probe(maintainer: ContainerMaintainerStub, bot_id: str) -> Probed:
    """What the bot's action ``ready`` says."""
    output = bytearray()
    try:
        end = run_action(
            maintainer,
            bot_id,
            "ready",
            on_output=lambda event: output.extend(event.stdout or event.stderr),
            timeout=_PROBE_SECONDS,
        )
    except grpc.RpcError as exc:
        return _of_error(exc)
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return Probed(end.exit_code, lines[-1].strip()[:200] if lines else f"exit code {end.exit_code}")


def _of_error(exc: grpc.RpcError) -> Probed:
    info = error_info(exc)
    if info.reason == "ACTION_NOT_ALLOWED":
        return Probed(None, _NOT_DECLARED)
    if info.reason == "SERVICE_NOT_ALLOWED" or info.code is grpc.StatusCode.UNIMPLEMENTED:
        return Probed(None, _NOT_SERVED)
    # The bot may have ended a moment ago, and the next status tells it.
    return Probed(1, info.message)
