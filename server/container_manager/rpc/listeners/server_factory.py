"""Makes gRPC servers. Each listens on one address; all have the same services and interceptors."""

from __future__ import annotations

import resource
from collections.abc import Callable, Collection, Mapping, Sequence

import grpc.aio
from google.protobuf.descriptor import ServiceDescriptor

from container_manager.addresses import Address, TcpAddress
from container_manager.config import ServerConfig
from container_manager.errors import AddressInUseError
from container_manager.observability.accounting import Accounting
from container_manager.rpc.interceptors.accounting import AccountingInterceptor
from container_manager.rpc.interceptors.authentication import AuthenticationInterceptor
from container_manager.rpc.interceptors.call_limit import CallLimitInterceptor, CallPlaces
from container_manager.rpc.interceptors.errors import ErrorInterceptor
from container_manager.rpc.interceptors.reception import KeptRequests, ReceptionInterceptor
from container_manager.rpc.interceptors.served_services import ServedServicesInterceptor
from container_manager.rpc.listeners.tcp_access import TcpAccess
from container_manager.rpc.listeners.unread_connections import UnreadConnections
from container_manager.rpc.services import not_served
from container_manager.rpc.stream_kinds import stream_limits
from container_manager.sockets.binding import check_free, socket_umask

# The share of this process's file descriptors for connections. The engine, logs and files need the rest.
_CONNECTIONS_SHARE = 0.5
_MOST_CONNECTIONS = 4_096
_WINDOW_BYTES = 65_535  # HTTP/2's initial one (RFC 9113, 6.9.2)


class ServerFactory:
    """Makes one server for each address, because a started gRPC server accepts no further address."""

    def __init__(
        self,
        register: Callable[[grpc.aio.Server, Address], None],
        served: Mapping[Address, Collection[ServiceDescriptor]],
        tcp: TcpAccess,
        *,
        places: CallPlaces,
        accounting: Accounting,
        options: Sequence[tuple[str, int]],
    ) -> None:
        """``register`` adds the services to a server for an address; only those in ``served`` can be called there.

        ``tcp`` is what TCP callers must present, ``options`` are gRPC's.
        """
        self._register = register
        self._served = served
        self._tcp = tcp
        self._places = places
        self._accounting = accounting
        self._options = options
        self._kept = KeptRequests()
        self.unread = UnreadConnections()
        self._receptions: list[ReceptionInterceptor] = []
        self._authentications: list[AuthenticationInterceptor] = []

    def close(self) -> None:
        """End the calls of every server whose requests have not arrived."""
        for reception in self._receptions:
            reception.close()

    def servers_stopped(self) -> None:
        """Log what the interceptors have still to log. Call it once every server has stopped."""
        for authentication in self._authentications:
            authentication.close()

    def listening_on(self, address: Address) -> tuple[grpc.aio.Server, int]:
        """A server that is bound to the address but not started, and its port. Raises :class:`AddressInUseError`."""
        if isinstance(address, TcpAddress):
            # gRPC reports a port in use only in its own log.
            check_free(address)
        has_token = isinstance(address, TcpAddress) and self._tcp.token is not None
        reception = ReceptionInterceptor(self._kept)
        interceptors: list[grpc.aio.ServerInterceptor] = [
            AccountingInterceptor(self._accounting, str(address), self.unread.end_calls, has_token=has_token),
            ServedServicesInterceptor(not_served(self._served[address])),
            ErrorInterceptor(),
            reception,
            CallLimitInterceptor(self._places, str(address), self.unread.end_calls),
        ]
        if isinstance(address, TcpAddress) and self._tcp.token is not None:
            authentication = AuthenticationInterceptor(self._tcp.token)
            interceptors.insert(1, authentication)
            self._authentications.append(authentication)
        self._receptions.append(reception)
        server = grpc.aio.server(interceptors=interceptors, options=self._options)
        self._register(server, address)
        try:
            with socket_umask():
                port = self._add_port(server, address)
        except RuntimeError as exc:
            raise AddressInUseError(f"cannot listen on {address}") from exc
        self.unread.listens_on(address, port)
        return server, port

    def _add_port(self, server: grpc.aio.Server, address: Address) -> int:
        if isinstance(address, TcpAddress) and self._tcp.credentials is not None:
            return int(server.add_secure_port(address.grpc_target, self._tcp.credentials))
        return int(server.add_insecure_port(address.grpc_target))


def transport_options(config: ServerConfig) -> tuple[tuple[str, int], ...]:
    """The gRPC options of each listener.

    There is no maximum connection age, because it would end long-lived streams.
    """
    limits = config.limits
    return (
        # Two servers on one port would answer in turn (grpc/grpc#16920).
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", limits.receive_bytes),
        ("grpc.max_send_message_length", limits.send_bytes),
        # A request that nobody reads yet holds no more than this; gRPC would widen the window by what it measures.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", _WINDOW_BYTES),
        ("grpc.max_allowed_incoming_connections", limits.connections or _connections(len(config.listen))),
        ("grpc.max_concurrent_streams", limits.streams_per_connection or _streams_per_connection(config)),
        ("grpc.server_handshake_timeout_ms", _ms(limits.handshake_seconds)),
        # The server closes the connection with GOAWAY; the client's next call opens a new one.
        ("grpc.max_connection_idle_ms", _ms(limits.idle_seconds)),
        # A client that does not answer pings is gone, even if TCP has not noticed; its streams are closed.
        ("grpc.keepalive_time_ms", _ms(limits.keepalive_seconds)),
        ("grpc.keepalive_timeout_ms", _ms(limits.keepalive_timeout_seconds)),
        # A ping has its own time-out, one minute by default, which also delays keepalive.
        ("grpc.http2.ping_timeout_ms", _ms(limits.keepalive_timeout_seconds)),
        # Older versions of gRPC stop after two pings without data.
        ("grpc.http2.max_pings_without_data", 0),
        # Clients ping idle connections; by default gRPC answers that with GOAWAY.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _ms(limits.least_ping_seconds)),
    )


def _connections(listeners: int) -> int:
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    return max(1, min(_MOST_CONNECTIONS, int(descriptors * _CONNECTIONS_SHARE) // max(1, listeners)))


def _streams_per_connection(config: ServerConfig) -> int:
    # As many as the server takes in all, and one for a health check: a client that gets no HTTP/2 stream waits without
    # a word, while the server refuses a call with a reason.
    return 2 * config.max_concurrent_calls + sum(stream_limits(config).values()) + 1


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
