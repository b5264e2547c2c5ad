"""What a server says of itself: versions, services and limits."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import container_manager
from botmaker.container.v1 import container_observer_pb2 as pb
from container_manager.actions import LABEL_ACTIONS, SECRETS_RELOAD, Action, DeclaredActions
from container_manager.backend import Backend, Feature
from container_manager.config import ServerConfig
from container_manager.errors import ContainerManagerError
from container_manager.rpc.stream_kinds import ACTIONS, MAINTENANCE

# Any number of callers cause one call to the backend in this time.
_KEPT_SECONDS = 5.0
_PATIENCE_SECONDS = 2.0


class ServerInfo:
    """Of one server, on one event loop."""

    def __init__(self, config: ServerConfig, backend: Backend, actions: DeclaredActions) -> None:
        self._backend = backend
        reloads = Feature.SECRETS_RELOAD not in backend.limitations
        self._actions = [_action_to_proto(action) for action in actions.all if reloads or action.name != SECRETS_RELOAD]
        self._limits = pb.ServerLimits(
            max_concurrent_calls=config.max_concurrent_calls,
            max_watchers=config.max_watchers,
            max_log_streams=config.max_log_streams,
            max_request_bytes=config.limits.receive_bytes,
            max_response_bytes=config.limits.send_bytes,
            max_maintenance_streams=MAINTENANCE.limit(config),
            max_actions=ACTIONS.limit(config),
        )
        self._asking = asyncio.Lock()
        self._version = ""
        self._expires = 0.0

    async def answer(self, services: Collection[str]) -> pb.GetServerInfoResponse:
        """The answer on a listener with these services, by full name."""
        return pb.GetServerInfoResponse(
            version=container_manager.__version__,
            backend=self._backend.name,
            backend_version=await self._backend_version(),
            services=sorted(services),
            limits=self._limits,
            actions=self._actions,
        )

    async def _backend_version(self) -> str:
        now = asyncio.get_running_loop().time
        async with self._asking:
            if now() >= self._expires:
                try:
                    async with asyncio.timeout(_PATIENCE_SECONDS):
                        self._version = await self._backend.version()
                except (ContainerManagerError, TimeoutError):
                    self._version = ""
                self._expires = now() + _KEPT_SECONDS
            return self._version


def _action_to_proto(action: Action) -> pb.ActionInfo:
    return pb.ActionInfo(
        name=action.name,
        arguments=[pb.ActionArgument(name=each.name, pattern=each.pattern) for each in action.arguments],
        images=action.images,
        image_label=f"{LABEL_ACTIONS}={action.action_set}" if action.action_set else "",
    )
