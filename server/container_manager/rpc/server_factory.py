"""Servers of gRPC, each of them listening on one address, and all with the same services and interceptors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import grpc.aio

from container_manager.observability.accounting import Accounting
from container_manager.rpc.auth_interceptor import AuthInterceptor
from container_manager.rpc.call_interceptor import CallInterceptor
from container_manager.rpc.call_limit import CallLimitInterceptor, CallPlaces
from container_manager.rpc.error_interceptor import ErrorInterceptor
from container_manager.rpc.listener import Address, TcpAddress, check_free, socket_umask
from container_manager.rpc.startup_error import StartupError
from container_manager.rpc.tcp_access import TcpAccess


class ServerFactory:
    """Makes a server for an address, as often as it is asked: a started one takes no further address."""

    def __init__(
        self,
        register: Callable[[grpc.aio.Server], None],
        tcp: TcpAccess,
        places: CallPlaces,
        accounting: Accounting,
        options: Sequence[tuple[str, int]],
    ) -> None:
        """``register`` adds the services, ``tcp`` is what callers over TCP must show, ``options`` are gRPC's."""
        self._register = register
        self._tcp = tcp
        self._places = places
        self._accounting = accounting
        self._options = options

    def listening_on(self, address: Address) -> tuple[grpc.aio.Server, int]:
        """A server that is bound there and not started yet, and its port. Raises :class:`StartupError`."""
        if isinstance(address, TcpAddress):
            # gRPC itself tells of a taken port in its own log only.
            check_free(address)
        interceptors: list[grpc.aio.ServerInterceptor] = [
            CallInterceptor(self._accounting),
            ErrorInterceptor(),
            CallLimitInterceptor(self._places),
        ]
        if isinstance(address, TcpAddress) and self._tcp.token is not None:
            interceptors.insert(1, AuthInterceptor(self._tcp.token))
        server = grpc.aio.server(interceptors=interceptors, options=self._options)
        self._register(server)
        try:
            with socket_umask():
                port = self._add_port(server, address)
        except RuntimeError as exc:
            raise StartupError(f"cannot listen on {address}") from exc
        return server, port

    def _add_port(self, server: grpc.aio.Server, address: Address) -> int:
        if isinstance(address, TcpAddress) and self._tcp.credentials is not None:
            return int(server.add_secure_port(address.grpc_target, self._tcp.credentials))
        return int(server.add_insecure_port(address.grpc_target))
