"""Sends a stop or restart to the engine, and waits for the grace period, which another call may end early."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from container_manager.engine.long_calls import LongCalls
from container_manager.errors import OperationInProgressError
from container_manager.model import ContainerState, ContainerStatus
from container_manager.operation import GracePeriod, Operation, Wait


def stop(calls: LongCalls, container: ContainerStatus, grace: int, *, rest_blocks: bool) -> Operation[None]:
    """Stop the container. Raises the errors of the engine's clients. ``rest_blocks``: what its caller does then."""
    stopped = calls.stop_container(container.container_id, grace)
    kill = partial(calls.kill_container, container.container_id)
    yield GracePeriod(future=stopped, rest_blocks=rest_blocks, grace_seconds=grace, kill=kill)
    stopped.result()


def restart(
    calls: LongCalls,
    container: ContainerStatus,
    grace: int,
    inspect: Callable[[ContainerStatus], ContainerStatus | None],
) -> Operation[None]:
    """Restart the container: one request. Raises the errors of the engine's clients. Then its caller may not block."""
    # Kill only the process that the restart is to end, never the one that it has started.
    kill = partial(calls.kill_container, container.container_id, container.start_time_ns or 0)
    restarted = calls.restart_container(container.container_id, grace)
    period = GracePeriod(future=restarted, rest_blocks=False, grace_seconds=grace, kill=kill)
    yield period
    restarted.result()
    if period.ended_early:
        yield Wait(seconds=0)
        # The process may have been replaced between the kill's look at it and the kill.
        now = inspect(container)
        if now is None or now.state is ContainerState.EXITED:
            raise OperationInProgressError(
                "another call ended the container while it was restarted", bot_id=container.bot_id
            )
