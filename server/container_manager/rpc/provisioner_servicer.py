"""The BotProvisioner service: decodes and checks each request, takes the bot's turn, and writes or removes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Any, TypeVar

from botmaker.container.v1 import bot_provisioner_pb2 as pb
from botmaker.container.v1 import bot_provisioner_pb2_grpc as pb_grpc
from container_manager.actions import SECRETS_RELOAD, DeclaredActions
from container_manager.backend import Backend, Feature
from container_manager.deadline import Deadline
from container_manager.errors import InvalidStateError, SecretsReloadFailedError
from container_manager.maintenance.bot_status import check_own_name
from container_manager.model import ContainerState, ContainerStatus
from container_manager.operation import Operation
from container_manager.provisioning.kept_tokens import TOKEN_NAME
from container_manager.provisioning.requests import check_files, check_secret_names, check_secrets
from container_manager.provisioning.secrets_reload import Reloaded, reload_secrets
from container_manager.rpc.call_deadline import caller_deadline
from container_manager.rpc.features import require
from container_manager.rpc.provisioner_codec import may_restart_from_proto, reload_to_proto, secrets_to_proto
from container_manager.scheduling.bot_operations import BotOperations
from container_manager.scheduling.worker_pools import WorkerPool
from container_manager.validation import check_bot_id

T = TypeVar("T")

# A grpc.aio.ServicerContext, which takes no type parameters at run time.
Context = Any

Restart = Callable[..., Awaitable[bool]]

_WITH_PROCESS = (ContainerState.RUNNING, ContainerState.PAUSED)


class BotProvisionerServicer(pb_grpc.BotProvisionerServicer):
    """Serves a backend's secrets and files. Raises domain errors, as :class:`ContainerManagerServicer` does."""

    def __init__(self, backend: Backend, operations: BotOperations, restart: Restart, actions: DeclaredActions) -> None:
        """``restart`` restarts the container that a function finds for it in the bot's turn; whether there was one."""
        self._backend = backend
        self._restart = restart
        self._operations = operations
        self._actions = actions
        self._submit = partial(operations.workers.submit, WorkerPool.RELOAD)

    async def PutSecrets(self, request: pb.PutSecretsRequest, context: Context) -> pb.PutSecretsResponse:
        check_bot_id(request.bot_id)
        check_secrets(request.secrets)

        def put(deadline: Deadline) -> None:
            replaces = request.replace_all or TOKEN_NAME in request.secrets
            run = self._run_with_token(request.bot_id, deadline) if replaces else None
            self._backend.secrets.put_secrets(request.bot_id, request.secrets, replace_all=request.replace_all, run=run)

        await self._change(request.bot_id, put, context)
        return pb.PutSecretsResponse()

    async def ReloadSecrets(self, request: pb.ReloadSecretsRequest, context: Context) -> pb.ReloadSecretsResponse:
        bot_id = request.bot_id
        check_bot_id(bot_id)
        may_restart = may_restart_from_proto(request)

        stale = self._backend.limitations.get(Feature.SECRETS_RELOAD)
        # Where a container keeps the secrets that it was started with, one that crashes again and again does too.
        states = _WITH_PROCESS if stale is None else (*_WITH_PROCESS, ContainerState.RESTARTING)

        def find(deadline: Deadline) -> ContainerStatus | None:
            """The bot's container, if it has secrets to reload."""
            container = self._in_state(bot_id, states, deadline)
            if container is not None:
                check_own_name(container)
            return container

        def reload(deadline: Deadline) -> Operation[Reloaded | None]:
            container = find(deadline)
            if container is None:
                return None
            if stale is not None:
                raise SecretsReloadFailedError(stale, bot_id=bot_id, backend=self._backend.name)
            command = self._actions.require(SECRETS_RELOAD, container).command_with(())
            return (
                yield from reload_secrets(
                    container, self._backend.secrets, self._backend.actions, command, self._submit, deadline=deadline
                )
            )

        try:
            reloaded: Reloaded | None = await self._operations.change(
                WorkerPool.CHANGE, bot_id, reload, caller_deadline(context)
            )
        except SecretsReloadFailedError:
            if not may_restart:
                raise
            # A change of its own: it waits until other bots have started, which a reload does not.
            return reload_to_proto("RESTARTED" if await self._restart(bot_id, context, find) else "NOT_RUNNING")
        return reload_to_proto("NOT_RUNNING") if reloaded is None else reload_to_proto("RELOADED", reloaded.confirmed)

    async def ListSecrets(self, request: pb.ListSecretsRequest, context: Context) -> pb.ListSecretsResponse:
        check_bot_id(request.bot_id)
        secrets = await self._change(
            request.bot_id, lambda _: self._backend.secrets.list_secrets(request.bot_id), context
        )
        return secrets_to_proto(secrets)

    async def DeleteSecrets(self, request: pb.DeleteSecretsRequest, context: Context) -> pb.DeleteSecretsResponse:
        check_bot_id(request.bot_id)
        check_secret_names(request.names)

        def delete(deadline: Deadline) -> None:
            if request.names:
                run = self._run_with_token(request.bot_id, deadline) if TOKEN_NAME in request.names else None
                self._backend.secrets.delete_secrets(request.bot_id, request.names, run=run)
            else:
                self._check_no_container(request.bot_id, deadline)
                self._backend.secrets.delete_all_secrets(request.bot_id)

        await self._change(request.bot_id, delete, context)
        return pb.DeleteSecretsResponse()

    async def PutFiles(self, request: pb.PutFilesRequest, context: Context) -> pb.PutFilesResponse:
        check_bot_id(request.bot_id)
        check_files(request.files)
        require(self._backend, Feature.FILES)
        await self._change(
            request.bot_id, lambda _: self._backend.files.put_files(request.bot_id, request.files), context
        )
        return pb.PutFilesResponse()

    async def DeleteState(self, request: pb.DeleteStateRequest, context: Context) -> pb.DeleteStateResponse:
        check_bot_id(request.bot_id)

        def delete(deadline: Deadline) -> None:
            self._check_no_container(request.bot_id, deadline)
            self._backend.files.delete_state(request.bot_id)

        await self._change(request.bot_id, delete, context)
        return pb.DeleteStateResponse()

    async def _change(self, bot_id: str, operation: Callable[[Deadline], T], context: Context) -> T:
        return await self._operations.change(WorkerPool.PROVISION, bot_id, operation, caller_deadline(context))

    def _run_with_token(self, bot_id: str, deadline: Deadline) -> int | None:
        """Identifies the run of the bot's process, which has loaded the gateway token: its start.

        ``None``: it does not run, or the bot has no token. Where that cannot be known, the backend's error: without the
        token that it has loaded, the process could not be made to load another one. Nobody needs any other secret's
        value before.
        """
        if all(secret.name != TOKEN_NAME for secret in self._backend.secrets.list_secrets(bot_id)):
            return None
        container = self._running(bot_id, deadline)
        return None if container is None else container.start_time_ns

    def _running(self, bot_id: str, deadline: Deadline) -> ContainerStatus | None:
        """The bot's container, if its process runs."""
        return self._in_state(bot_id, _WITH_PROCESS, deadline)

    def _in_state(self, bot_id: str, states: Collection[ContainerState], deadline: Deadline) -> ContainerStatus | None:
        status = self._backend.lifecycle.get_container_status(bot_id, deadline=deadline)
        return status if status is not None and status.state in states else None

    def _check_no_container(self, bot_id: str, deadline: Deadline) -> None:
        """Nothing creates one meanwhile: this call has the bot's turn."""
        found = self._backend.lifecycle.containers_of_bot(bot_id, deadline=deadline)
        if found:
            raise InvalidStateError("the bot has a container; remove it first", bot_id=bot_id, container_id=found[0])
