"""The ContainerMaintainer service: upgrades, backups and actions."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any, NoReturn

from botmaker.container.v1 import container_maintainer_pb2 as pb
from botmaker.container.v1 import container_maintainer_pb2_grpc as pb_grpc
from container_manager.backend import Backend
from container_manager.errors import NotSupportedByBackendError
from container_manager.maintenance.maintenance import Maintenance
from container_manager.observability.call import current_call
from container_manager.rpc.call_deadline import caller_deadline
from container_manager.rpc.maintainer_codec import action_event_to_proto
from container_manager.validation import check_bot_id

# A grpc.aio.ServicerContext, which takes no type parameters at run time.
Context = Any


class ContainerMaintainerServicer(pb_grpc.ContainerMaintainerServicer):
    """Raises domain errors, also in the middle of a stream, as :class:`ContainerObserverServicer` does."""

    def __init__(self, backend: Backend, maintenance: Maintenance) -> None:
        self._backend = backend
        self._actions = maintenance.runner
        self._declared = maintenance.actions

    # The methods that stream are coroutines that write: a generator is closed only when it is garbage-collected.

    async def UpgradeContainer(  # type: ignore[override]
        self, _request: pb.UpgradeContainerRequest, _context: Context
    ) -> None:
        self._not_supported()

    async def CreateBackup(  # type: ignore[override]
        self, _request: pb.CreateBackupRequest, _context: Context
    ) -> None:
        self._not_supported()

    async def ListBackups(self, _request: pb.ListBackupsRequest, _context: Context) -> pb.ListBackupsResponse:
        self._not_supported()

    async def DeleteBackup(self, _request: pb.DeleteBackupRequest, _context: Context) -> pb.DeleteBackupResponse:
        self._not_supported()

    async def RestoreBackup(  # type: ignore[override]
        self, _request: pb.RestoreBackupRequest, _context: Context
    ) -> None:
        self._not_supported()

    async def RunAction(  # type: ignore[override]
        self, request: pb.RunActionRequest, context: Context
    ) -> None:
        check_bot_id(request.bot_id)
        call = current_call.get()
        if call is not None and self._declared.declares(request.action):
            call.action = request.action
        events = self._actions.run(request.bot_id, request.action, request.arguments, caller_deadline(context))
        async with aclosing(events):
            async for event in events:
                await context.write(action_event_to_proto(event))

    def _not_supported(self) -> NoReturn:
        raise NotSupportedByBackendError("this version of the server does not do this yet", backend=self._backend.name)
