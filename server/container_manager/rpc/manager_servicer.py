"""The ContainerManager service: decodes each RPC, runs a lifecycle operation, and encodes the result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_manager_pb2_grpc as pb_grpc
from container_manager.backend import Created, Lifecycle
from container_manager.backend_provisioning import Secrets
from container_manager.deadline import Deadline
from container_manager.errors import ContainerManagerError
from container_manager.model import ContainerFilter, ContainerState, ContainerStatus
from container_manager.operation import Operation, Wait
from container_manager.rpc import manager_codec as codec
from container_manager.rpc.call_deadline import caller_deadline
from container_manager.rpc.wire import joined
from container_manager.scheduling.bot_operations import BotOperations
from container_manager.scheduling.worker_pools import WorkerPool
from container_manager.validation import check_bot_id, check_create
from container_manager.view.bot_change import BotChange
from container_manager.view.keeper import ViewKeeper
from container_manager.view.live_view import LiveView

T = TypeVar("T")

# A grpc.aio.ServicerContext, which takes no type parameters at run time.
Context = Any


class ContainerManagerServicer(pb_grpc.ContainerManagerServicer):
    """Serves a backend's :class:`Lifecycle`. Raises domain errors, which the error interceptor turns into statuses."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        operations: BotOperations,
        keeper: ViewKeeper,
        secrets: Secrets,
    ) -> None:
        """``secrets``: those of the bots. What it keeps of a bot's process is forgotten when a call ends that."""
        self._secrets = secrets
        self._lifecycle = lifecycle
        self._operations = operations
        self._keeper = keeper
        self._list = (0, b"")

    async def CreateContainer(self, request: pb.CreateContainerRequest, context: Context) -> pb.CreateContainerResponse:
        # Check the id before waiting for the bot's turn, here and below: an invalid id gets no turn.
        check_bot_id(request.bot_id)
        config = codec.config_from_proto(request.config)
        change = self._keeper.change(request.bot_id)

        def create(deadline: Deadline) -> Operation[Created]:
            check_create(request.request_id, config)
            return self._lifecycle.create_container(
                request.bot_id, config, request_id=request.request_id, absent=change.absent, deadline=deadline
            )

        created = await self._change(WorkerPool.CREATE, request.bot_id, create, change, context)
        return pb.CreateContainerResponse(container_id=created.container_id)

    async def StartContainer(self, request: pb.StartContainerRequest, context: Context) -> pb.StartContainerResponse:
        await self._act(
            request.bot_id, context, self._lifecycle.start_container, starts=lambda: not self._runs(request.bot_id)
        )
        return pb.StartContainerResponse()

    async def StopContainer(self, request: pb.StopContainerRequest, context: Context) -> pb.StopContainerResponse:
        grace = codec.grace_seconds_from_proto(request)
        await self._end(request.bot_id, context, self._lifecycle.stop_container, grace, tolerates_stale_state=True)
        return pb.StopContainerResponse()

    async def RestartContainer(
        self, request: pb.RestartContainerRequest, context: Context
    ) -> pb.RestartContainerResponse:
        grace = codec.grace_seconds_from_proto(request)
        await self._end(request.bot_id, context, self._lifecycle.restart_container, grace, starts=lambda: True)
        return pb.RestartContainerResponse()

    async def restart_after(
        self,
        bot_id: str,
        context: Context,
        find: Callable[[Deadline], ContainerStatus | None],
    ) -> bool:
        """Restart the container that ``find`` returns, with the default grace period; whether there was one.

        ``find`` has the bot's turn too, so that nobody stops or starts the bot between it and the restart.
        """
        change = self._keeper.change(bot_id)

        def act(deadline: Deadline) -> Operation[str]:
            container = find(deadline)
            if container is None:
                return ""
            restart = self._lifecycle.restart_container(bot_id, known=container, deadline=deadline)
            return (yield from self._ending(bot_id, restart))

        # Without a grace period that would end another call's: there may be nothing to restart after that.
        return bool(await self._change(WorkerPool.CHANGE, bot_id, act, change, context, starts=lambda: True))

    async def RemoveContainer(self, request: pb.RemoveContainerRequest, context: Context) -> pb.RemoveContainerResponse:
        grace = codec.grace_seconds_from_proto(request)
        await self._end(
            request.bot_id, context, self._lifecycle.remove_container, grace, removes=True, tolerates_stale_state=True
        )
        return pb.RemoveContainerResponse()

    # The live view keeps each status in its wire form.

    async def GetContainerStatus(self, request: pb.GetContainerStatusRequest, context: Context) -> Any:
        bot_id = request.bot_id
        check_bot_id(bot_id)
        view = self._keeper.view
        if view.answers_for(bot_id):
            entry = view.of_bot(bot_id)
            return b"" if entry is None else entry.encoded
        status = await self._operations.read(
            bot_id,
            lambda deadline: self._lifecycle.get_container_status(bot_id, deadline=deadline),
            caller_deadline(context),
        )
        if status is None:
            return pb.GetContainerStatusResponse()
        return pb.GetContainerStatusResponse(status=codec.status_to_proto(status))

    async def ListManagedContainers(self, request: pb.ListManagedContainersRequest, context: Context) -> Any:
        wanted = codec.filter_from_proto(request)
        view = self._keeper.view
        if view.answers_for_all:
            if wanted == ContainerFilter():
                return self._whole_list(view)
            return joined(entry.encoded for entry in view.entries() if wanted.matches(entry.status))
        statuses = await self._operations.read(
            "the list of bots",
            lambda deadline: self._lifecycle.list_managed_containers(wanted.states, deadline=deadline),
            caller_deadline(context),
        )
        return pb.ListManagedContainersResponse(
            containers=[codec.status_to_proto(status) for status in statuses if wanted.matches(status)]
        )

    def _whole_list(self, view: LiveView) -> bytes:
        version, encoded = self._list
        if version != view.version:
            encoded = joined(entry.encoded for entry in view.entries())
            self._list = (view.version, encoded)
        return encoded

    async def _end(self, bot_id: str, context: Context, method: Any, grace_seconds: int | None, **how: Any) -> None:
        """Run a change that ends the bot's process."""
        grace = self._lifecycle.default_grace_seconds if grace_seconds is None else grace_seconds

        def end(bot_id: str, **known: Any) -> Operation[str]:
            # The backend knows the container's own, should it differ.
            return self._ending(bot_id, method(bot_id, grace_seconds=grace_seconds, **known))

        await self._act(bot_id, context, end, grace_seconds=grace, **how)

    def _ending(self, bot_id: str, change: Operation[str]) -> Operation[str]:
        # In the worker that begins: the disk may be slow, and what follows the change may run on the event loop.
        may_keep_token = self._secrets.may_keep_token(bot_id)
        container_id = yield from change
        if may_keep_token:
            # Go on in a worker.
            yield Wait(seconds=0)
            # The change has been made; what follows must not make it look failed.
            with suppress(ContainerManagerError):
                self._secrets.forget_token(bot_id)
        return container_id

    async def _act(
        self,
        bot_id: str,
        context: Context,
        method: Any,
        *,
        grace_seconds: int | None = None,
        starts: Callable[[], bool] = lambda: False,
        **how: bool,
    ) -> None:
        check_bot_id(bot_id)
        change = self._keeper.change(bot_id, **how)

        def act(deadline: Deadline) -> Operation[str]:
            operation: Operation[str] = method(bot_id, known=change.known, deadline=deadline)
            return operation

        await self._change(WorkerPool.CHANGE, bot_id, act, change, context, grace_seconds=grace_seconds, starts=starts)

    def _runs(self, bot_id: str) -> bool:
        """Whether the bot is known to run: a start leaves it as it is."""
        entry = self._keeper.view.of_bot(bot_id) if self._keeper.view.answers_for(bot_id) else None
        return entry is not None and entry.status.state is ContainerState.RUNNING

    async def _change(
        self,
        pool: WorkerPool,
        bot_id: str,
        operation: Callable[[Deadline], Operation[T]],
        change: BotChange,
        context: Context,
        *,
        grace_seconds: int | None = None,
        starts: Callable[[], bool] = lambda: False,
    ) -> T:
        """The operation's result, once the view shows the change: a read after this response sees it."""
        deadline = caller_deadline(context)
        try:
            result: T = await self._operations.change(
                pool,
                bot_id,
                operation,
                deadline,
                grace_seconds=grace_seconds,
                starts=starts,
                on_turn=change.begin,
                on_end=change.end,
            )
        except ContainerManagerError:
            await _shown(change, deadline)
            raise
        await _shown(change, deadline)
        return result


async def _shown(change: BotChange, deadline: Deadline) -> None:
    # At the caller's deadline, the operation may still be running: the view has nothing to show yet.
    with suppress(TimeoutError):
        async with asyncio.timeout(deadline.remaining()):
            await change.settled()
