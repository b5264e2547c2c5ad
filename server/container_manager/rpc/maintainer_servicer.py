"""The ContainerMaintainer service: upgrades, backups and actions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Any, TypeVar

from botmaker.container.v1 import container_maintainer_pb2 as pb
from botmaker.container.v1 import container_maintainer_pb2_grpc as pb_grpc
from container_manager.actions import SECRETS_RELOAD
from container_manager.backend import Backend, Feature
from container_manager.errors import BackupUnavailableError
from container_manager.maintenance.backup import backup_document
from container_manager.maintenance.backup_store import BackupStore
from container_manager.maintenance.journal import Record
from container_manager.maintenance.long_runs import LongRuns
from container_manager.maintenance.maintenance import Maintenance
from container_manager.maintenance.steps import NO_BACKUPS
from container_manager.maintenance.task import Report, Result
from container_manager.observability.call import current_call
from container_manager.rpc import maintainer_codec as codec
from container_manager.rpc.call_deadline import caller_deadline
from container_manager.rpc.features import require
from container_manager.rpc.taking import taken_in_time
from container_manager.scheduling.bot_operations import BotOperations
from container_manager.validation import check_bot_id, check_counts

T = TypeVar("T")

# A grpc.aio.ServicerContext, which takes no type parameters at run time.
Context = Any


class ContainerMaintainerServicer(pb_grpc.ContainerMaintainerServicer):
    """Raises domain errors, also in the middle of a stream, as :class:`ContainerObserverServicer` does."""

    def __init__(
        self, backend: Backend, operations: BotOperations, maintenance: Maintenance, long_runs: LongRuns
    ) -> None:
        self._backend = backend
        self._operations = operations
        self._actions = maintenance.runner
        self._declared = maintenance.actions
        self._long_runs = long_runs

    # The methods that stream are coroutines that write: a generator is closed only when it is garbage-collected.

    async def UpgradeContainer(  # type: ignore[override]
        self, request: pb.UpgradeContainerRequest, context: Context
    ) -> None:
        record = codec.upgrade_from_proto(request)
        if not request.skip_backup:
            require(self._backend, Feature.BACKUPS)
        await self._follow(record, codec.upgrade_to_proto, context)

    async def CreateBackup(  # type: ignore[override]
        self, request: pb.CreateBackupRequest, context: Context
    ) -> None:
        record = codec.backup_from_proto(request)
        require(self._backend, Feature.BACKUPS)
        if not request.stop_and_restart:
            require(self._backend, Feature.PAUSE)
        await self._follow(
            record,
            lambda report: pb.CreateBackupResponse(progress=codec.progress_to_proto(report)),
            context,
            lambda result: pb.CreateBackupResponse(backup=codec.backup_to_proto(result)),
        )

    async def ListBackups(self, request: pb.ListBackupsRequest, context: Context) -> pb.ListBackupsResponse:
        if request.bot_id:
            check_bot_id(request.bot_id)
        backups = await self._stored("the list of backups", lambda store: store.list(request.bot_id), context)
        documents = (codec.backup_to_proto(backup_document(backup)) for backup in backups)
        return pb.ListBackupsResponse(backups=documents)

    async def DeleteBackup(self, request: pb.DeleteBackupRequest, context: Context) -> pb.DeleteBackupResponse:
        backup_id = codec.backup_id_from_proto(request)
        await self._stored("removals of backups", lambda store: store.delete(backup_id), context)
        return pb.DeleteBackupResponse()

    async def RestoreBackup(  # type: ignore[override]
        self, request: pb.RestoreBackupRequest, context: Context
    ) -> None:
        record = codec.restore_from_proto(request)
        require(self._backend, Feature.BACKUPS)
        await self._follow(record, codec.restore_to_proto, context)

    async def RunAction(  # type: ignore[override]
        self, request: pb.RunActionRequest, context: Context
    ) -> None:
        check_bot_id(request.bot_id)
        check_counts({"arguments": len(request.arguments)})
        require(self._backend, Feature.ACTIONS)
        if request.action == SECRETS_RELOAD:
            require(self._backend, Feature.SECRETS_RELOAD)
        call = current_call.get()
        if call is not None and self._declared.declares(request.action):
            call.action = request.action
        async with taken_in_time("the action has ended, and its output was not taken in time") as ended:
            events = self._actions.run(
                request.bot_id, request.action, request.arguments, caller_deadline(context), ended
            )
            async with aclosing(events):
                async for event in events:
                    await context.write(codec.action_event_to_proto(event))

    async def _follow(
        self,
        record: Record,
        to_proto: Callable[[Report], Any],
        context: Context,
        result_to_proto: Callable[[Result], Any] | None = None,
    ) -> None:
        """Begin an operation, or join it, and write where it is until it has ended, and then its result."""
        run = await self._long_runs.runs.attach(record)
        async with taken_in_time("the operation has ended, and its messages were not taken in time") as ended:
            async with aclosing(run.reports(ended)) as reports:
                async for report in reports:
                    await context.write(to_proto(report))
            result = run.result()
            if result_to_proto is not None:
                await context.write(result_to_proto(result))

    async def _stored(self, what: str, call: Callable[[BackupStore], T], context: Context) -> T:
        store = self._long_runs.store
        if store is None:
            raise BackupUnavailableError(NO_BACKUPS)
        return await self._operations.read(what, lambda _: call(store), caller_deadline(context))
