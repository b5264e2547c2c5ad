"""The server: listeners, services and their shutdown.

``Server(…).run(…)`` serves until SIGTERM or SIGINT. Then health answers NOT_SERVING, the server refuses new calls, and
calls in progress have the drain period to end. The engine finishes changes that last longer. A second signal exits at
once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import grpc.aio
import structlog
import uvloop
from google.protobuf.descriptor_pb2 import MethodOptions
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from botmaker.container.v1 import (
    bot_provisioner_pb2_grpc,
    container_maintainer_pb2_grpc,
    container_manager_pb2_grpc,
    container_observer_pb2_grpc,
)
from container_manager.actions import DeclaredActions
from container_manager.addresses import Address, TcpAddress, UnixAddress, parse_address
from container_manager.backend import Backend, CallObserver, Feature
from container_manager.config import ServerConfig
from container_manager.errors import StartupError
from container_manager.maintenance.long_runs import LoopWaits, long_runs
from container_manager.maintenance.maintenance import Maintenance
from container_manager.observability.telemetry import Telemetry
from container_manager.rpc.engine_health import EngineHealth
from container_manager.rpc.grpc_workarounds import with_filtered_grpc_log
from container_manager.rpc.health_servicer import HealthServicer
from container_manager.rpc.interceptors.call_limit import READS, CallPlaces
from container_manager.rpc.listeners.server_factory import ServerFactory, transport_options
from container_manager.rpc.listeners.shutdown import stop_servers
from container_manager.rpc.listeners.tcp_access import tcp_access
from container_manager.rpc.maintainer_servicer import ContainerMaintainerServicer
from container_manager.rpc.manager_servicer import ContainerManagerServicer
from container_manager.rpc.observer_servicer import ContainerObserverServicer
from container_manager.rpc.operation_limits import bot_operations
from container_manager.rpc.provisioner_servicer import BotProvisionerServicer
from container_manager.rpc.reflection import V1_FILE, add_reflection
from container_manager.rpc.server_info import ServerInfo
from container_manager.rpc.services import SERVICES, not_served, served_services
from container_manager.rpc.stream_kinds import stream_limits
from container_manager.rpc.wire import encoded_status
from container_manager.scheduling.allowance import Allowance
from container_manager.scheduling.starts import Starts
from container_manager.scheduling.streams import Streams
from container_manager.sockets.access import socket_access
from container_manager.sockets.binding import unix_socket_path
from container_manager.sockets.watch import SocketWatch
from container_manager.stats.disk import DiskUses
from container_manager.view.keeper import ViewKeeper

_HEALTH: Any = health_pb2.DESCRIPTOR.services_by_name["Health"]
_ALL_SERVICES: tuple[Any, ...] = (
    *SERVICES.values(),
    _HEALTH,
    V1_FILE.services_by_name["ServerReflection"],
    reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"],
)
_METHODS = [f"/{service.full_name}/{method.name}" for service in _ALL_SERVICES for method in service.methods]
_CHANGES = [
    f"/{service.full_name}/{method.name}"
    for service in SERVICES.values()
    for method in service.methods
    if method.GetOptions().idempotency_level != MethodOptions.NO_SIDE_EFFECTS
]

# All count towards the second that the process may take after the drain period.
_UNDO_SECONDS = 0.7
_LAST_TOLD_SECONDS = 0.1
_WORKERS_END_SECONDS = 0.1

# Of the ids and labels that open streams name, on average; one stream may name many more while others name fewer.
_IDS_PER_WATCHER = 100
_TOO_MANY_IDS = (
    "open streams name {kept} bot ids and labels, and this one {more} more; the server keeps at most {limit}: name "
    "fewer bots, or none, for all of them"
)

_log = structlog.get_logger(__name__)


class Server:
    """One service on any number of listeners. :meth:`start` and :meth:`stop` once each, on one event loop."""

    def __init__(self, config: ServerConfig, open_backend: Callable[[CallObserver | None], Backend]) -> None:
        """``open_backend`` creates the backend; its argument observes calls to the engine.

        Raises :class:`StartupError` for an unusable address, group or file.
        """
        self._config = config
        self._wanted = [parse_address(text) for text in config.listen]
        for address in self._wanted:
            if self._wanted.count(address) > 1 and not (isinstance(address, TcpAddress) and address.port == 0):
                raise StartupError(f"{address} is given twice")
        self._served = served_services(config)
        self._access = socket_access(config.socket_mode, config.socket_group)
        self.streams = Streams(stream_limits(config))
        self.places = CallPlaces(config.max_concurrent_calls, self.streams)
        self.telemetry = Telemetry(config, _METHODS, READS, _CHANGES)
        self._factory = ServerFactory(
            self._register,
            self._served,
            tcp_access(self._wanted, config),
            places=self.places,
            accounting=self.telemetry.accounting,
            options=transport_options(config),
        )
        self._backend = open_backend(self.telemetry.engine_observer)
        self.keeper = ViewKeeper(self._backend.source, encoded_status, self.telemetry.on_event_lag)
        starts = Starts(config.start_concurrency)
        self._operations = bot_operations(config, starts)
        runs_actions = Feature.ACTIONS not in self._backend.limitations
        actions = DeclaredActions(config.actions) if runs_actions else DeclaredActions(built_in=())
        self.maintenance = Maintenance(self._backend, self._operations, self.keeper, actions, self.telemetry.on_ready)
        starts.has_started = self.maintenance.has_started
        self._disk = DiskUses(self._backend.disk_use)
        self.telemetry.watch(self.keeper, self.streams, self._disk, starts)
        self._servicer = ContainerManagerServicer(
            self._backend.lifecycle, self._operations, self.keeper, self._backend.secrets
        )
        kept_ids = Allowance(_IDS_PER_WATCHER * config.max_watchers, _TOO_MANY_IDS)
        self._observer = ContainerObserverServicer(
            self._backend,
            self._operations,
            self.keeper,
            self._disk,
            kept_ids=kept_ids,
            info=ServerInfo(config, self._backend, self.maintenance.actions),
        )
        self._provisioner = BotProvisionerServicer(
            self._backend, self._operations, self._servicer.restart_after, self.maintenance.actions
        )
        waits = LoopWaits(self.maintenance.readiness, self.keeper, self._backend, starts)
        self._runs = long_runs(config, self._backend, self._operations, self.keeper, waits)
        self._maintainer = ContainerMaintainerServicer(self._backend, self._operations, self.maintenance, self._runs)
        self._health = {each: HealthServicer(part.full_name for part in each) for each in set(self._served.values())}
        self._engine_health = EngineHealth(
            self._health.values(),
            self._backend.lifecycle,
            self._operations,
            self.keeper.engine_answers,
        )
        self._sockets = ExitStack()
        self._servers: list[grpc.aio.Server] = []
        self._servers_stopped = True
        self._watches: list[SocketWatch] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.addresses: list[str] = []
        """The addresses, with the real ports; filled by :meth:`start`."""

    async def start(self) -> None:
        """Listen and serve; the engine need not run. Raises :class:`StartupError` after releasing everything."""
        await self.telemetry.start()
        try:
            for address in self._wanted:
                self._listen(address)
            # Before any call, so that it has its bots' turns.
            await self._runs.recover()
            for server in self._servers:
                await server.start()
        except BaseException:
            for server in self._servers:
                await server.stop(None)
            self._sockets.close()
            await self._runs.runs.close()
            await self.telemetry.stop(0)
            raise
        self.keeper.start()
        # A thread that ends with the process: what is left may be large, and nothing waits for its removal.
        threading.Thread(target=self._remove_leftovers, name="leftovers", daemon=True).start()
        monitors = [self._factory.unread.run(), self._engine_health.run(), *(watch.run() for watch in self._watches)]
        self._tasks = [asyncio.create_task(monitor) for monitor in monitors]

    async def stop(self, grace_seconds: float) -> int:
        """Stop serving, waiting ``grace_seconds`` for calls. Returns how many changes are still in progress."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for health in self._health.values():
            health.shut_down()
        self.streams.close()
        self._factory.close()
        ends = asyncio.get_running_loop().time() + grace_seconds
        self._servers_stopped = await stop_servers(self._servers, self.places, grace_seconds)
        self._factory.servers_stopped()
        # Changes whose client has gone have no RPC to wait for. Calls just cancelled need a moment to be undone.
        await self._operations.drain(max(_UNDO_SECONDS, ends - asyncio.get_running_loop().time()))
        left = self._operations.changes_under_way
        # Within the rest of the drain period and the extra second.
        await self.telemetry.stop(max(_LAST_TOLD_SECONDS, ends - asyncio.get_running_loop().time()))
        await self._runs.runs.close()
        await self._observer.close()
        await self._disk.close()
        await self.keeper.close()
        await self._backend.close()
        self._sockets.close()
        self._operations.close()
        return left

    def run(self, on_serving: Callable[[list[str]], None], on_stopping: Callable[[], None] = lambda: None) -> None:
        """Serve until a signal; calls ``on_serving`` with the addresses once, and ``on_stopping`` at the signal.

        If workers are still busy at the end, or callers keep gRPC from its end, exits the process instead of returning,
        with status 1 if a worker works on a change: the interpreter would wait for their threads.
        """
        # A call takes less CPU time than on asyncio's own loop: a status a tenth to a fifth less.
        left = uvloop.run(with_filtered_grpc_log(self._run(on_serving, on_stopping)))
        if left:
            _log.warning("shut down with operations under way; the engine finishes what it has begun", operations=left)
        if left or not self._operations.workers.idle_within(_WORKERS_END_SECONDS) or not self._servers_stopped:
            # The interpreter would wait for the threads for as long as the engine, or a caller, blocks them.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1 if left else 0)

    async def _run(self, on_serving: Callable[[list[str]], None], on_stopping: Callable[[], None]) -> int:
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()

        def on_signal(number: signal.Signals) -> None:
            if asked.is_set():
                os._exit(128 + number)
            # Before anything else, so that no call is accepted after this line of the log.
            self._factory.close()
            on_stopping()
            _log.info("shutting down", signal=number.name, drain_seconds=self._config.drain_seconds)
            asked.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal, number)
        loop.add_signal_handler(signal.SIGHUP, _log.info, "SIGHUP is ignored; SIGTERM ends the service")
        signalled, start = (asyncio.create_task(each) for each in (asked.wait(), self.start()))
        await asyncio.wait({signalled, start}, return_when=asyncio.FIRST_COMPLETED)
        if not start.done():
            # A root's disk may not answer.
            start.cancel()
            await asyncio.wait({start})
            return self._operations.changes_under_way
        await start
        try:
            on_serving(self.addresses)
            await signalled
        except BaseException:
            await self.stop(0)
            raise
        return await self.stop(self._config.drain_seconds)

    def _listen(self, address: Address) -> None:
        if isinstance(address, TcpAddress):
            port = self._bind(address)
            self.addresses.append(str(TcpAddress(address.host, port)))
            return
        held = self._sockets.enter_context(unix_socket_path(address.path, self._access))
        self._bind(address)
        held.bound()
        self._watches.append(SocketWatch(held, partial(self._listen_anew, address)))
        self.addresses.append(str(address))

    async def _listen_anew(self, address: UnixAddress) -> None:
        # A started server accepts no further address. The previous one keeps its open connections.
        self._bind(address)
        await self._servers[-1].start()

    def _bind(self, address: Address) -> int:
        """Add a server that listens there. Returns its port."""
        server, port = self._factory.listening_on(address)
        self._servers.append(server)
        return port

    def _remove_leftovers(self) -> None:
        for part in (self._backend.secrets, self._backend.files, self._backend.lifecycle):
            part.remove_leftovers()
        if self._runs.store is not None:
            self._runs.store.remove_leftovers()

    def _register(self, server: grpc.aio.Server, address: Address) -> None:
        served = self._served[address]
        observer = self._observer.on_listener(service.full_name for service in served)
        container_manager_pb2_grpc.add_ContainerManagerServicer_to_server(self._servicer, server)
        container_observer_pb2_grpc.add_ContainerObserverServicer_to_server(observer, server)
        bot_provisioner_pb2_grpc.add_BotProvisionerServicer_to_server(self._provisioner, server)
        container_maintainer_pb2_grpc.add_ContainerMaintainerServicer_to_server(self._maintainer, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health[served], server)
        add_reflection(server, (*served, _HEALTH), not_served(served))
