"""The ContainerManager service: each RPC decoded, run as a lifecycle operation, and its result encoded."""

from __future__ import annotations

from functools import partial
from typing import Any

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_manager_pb2_grpc as pb_grpc
from container_manager.deadline import Deadline
from container_manager.docker_service import DockerService
from container_manager.rpc import codec
from container_manager.rpc.operations import Lane, Operations
from container_manager.validation import check_bot_id

# A grpc.aio.ServicerContext; at run time that class takes no parameters.
Context = Any

# Kept of the caller's deadline for the answer's way back: without it the caller would see its own
# DEADLINE_EXCEEDED, which says nothing, a moment before ours.
_ANSWER_SHARE = 0.1
_ANSWER_MAX_SECONDS = 0.2


class ContainerManagerServicer(pb_grpc.ContainerManagerServicer):
    """Serves :class:`DockerService` to gRPC. Raises domain errors, which the error interceptor turns into statuses."""

    def __init__(self, service: DockerService, operations: Operations) -> None:
        self._service = service
        self._operations = operations

    async def CreateContainer(self, request: pb.CreateContainerRequest, context: Context) -> pb.CreateContainerResponse:
        check_bot_id(request.bot_id)
        config = codec.config_from_proto(request.config)

        def create(deadline: Deadline) -> str:
            return self._service.create_container(
                request.bot_id, config, request_id=request.request_id, deadline=deadline
            )

        container_id = await self._operations.change(Lane.CREATE, request.bot_id, create, _deadline(context))
        return pb.CreateContainerResponse(container_id=container_id)

    async def StartContainer(self, request: pb.StartContainerRequest, context: Context) -> pb.StartContainerResponse:
        await self._change(request.bot_id, context, self._service.start_container)
        return pb.StartContainerResponse()

    async def StopContainer(self, request: pb.StopContainerRequest, context: Context) -> pb.StopContainerResponse:
        grace = codec.grace_seconds_from_proto(request)
        await self._change(request.bot_id, context, partial(self._service.stop_container, grace_seconds=grace))
        return pb.StopContainerResponse()

    async def RestartContainer(
        self, request: pb.RestartContainerRequest, context: Context
    ) -> pb.RestartContainerResponse:
        grace = codec.grace_seconds_from_proto(request)
        await self._change(request.bot_id, context, partial(self._service.restart_container, grace_seconds=grace))
        return pb.RestartContainerResponse()

    async def RemoveContainer(self, request: pb.RemoveContainerRequest, context: Context) -> pb.RemoveContainerResponse:
        grace = codec.grace_seconds_from_proto(request)
        await self._change(request.bot_id, context, partial(self._service.remove_container, grace_seconds=grace))
        return pb.RemoveContainerResponse()

    async def GetContainerStatus(
        self, request: pb.GetContainerStatusRequest, context: Context
    ) -> pb.GetContainerStatusResponse:
        check_bot_id(request.bot_id)
        status = await self._operations.read(
            request.bot_id,
            lambda deadline: self._service.get_container_status(request.bot_id, deadline=deadline),
            _deadline(context),
        )
        if status is None:
            return pb.GetContainerStatusResponse()
        return pb.GetContainerStatusResponse(status=codec.status_to_proto(status))

    async def ListManagedContainers(
        self, request: pb.ListManagedContainersRequest, context: Context
    ) -> pb.ListManagedContainersResponse:
        states = codec.states_from_proto(request)
        statuses = await self._operations.read(
            "the list",
            lambda deadline: self._service.list_managed_containers(states, deadline=deadline),
            _deadline(context),
        )
        return pb.ListManagedContainersResponse(containers=[codec.status_to_proto(status) for status in statuses])

    async def _change(self, bot_id: str, context: Context, method: Any) -> None:
        # Checked before a turn is taken, so that no lock is kept for what is no bot.
        check_bot_id(bot_id)
        await self._operations.change(
            Lane.CHANGE, bot_id, lambda deadline: method(bot_id, deadline=deadline), _deadline(context)
        )


def _deadline(context: Context) -> Deadline:
    remaining = context.time_remaining()
    if remaining is None:
        return Deadline()
    return Deadline(max(0.0, remaining - min(_ANSWER_MAX_SECONDS, remaining * _ANSWER_SHARE)))
