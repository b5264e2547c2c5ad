"""What a run works with: its connection, its stubs, its two streams."""

from __future__ import annotations

import sys
from functools import cached_property

import click
import grpc
from rich.console import Console
from rich.text import Text

from botctl.connection import Connection, open_channel
from botctl.problems import Problem, explain
from botctl.rendering.terminal import console
from botctl.tls_files import TLS_OPTIONS, tls_paths
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub


class Session:
    """One run. The channel is made at the first call, and closed by :meth:`close`."""

    def __init__(self, connection: Connection, *, as_json: bool = False) -> None:
        self.connection = connection
        self.as_json = as_json
        self._channel: grpc.Channel | None = None

    @cached_property
    def manager(self) -> ContainerManagerStub:
        """The seven calls."""
        return ContainerManagerStub(self._open())

    @cached_property
    def observer(self) -> ContainerObserverStub:
        """The streams."""
        return ContainerObserverStub(self._open())

    @cached_property
    def out(self) -> Console:
        """Standard output: what was asked for."""
        return console(sys.stdout)

    @cached_property
    def err(self) -> Console:
        """Standard error: how it goes."""
        return console(sys.stderr)

    def containers(self, timeout: float | None = None) -> list[pb.ContainerStatus]:
        """Every managed container."""
        return list(self.manager.ListManagedContainers(pb.ListManagedContainersRequest(), timeout=timeout).containers)

    def status(self, bot_id: str) -> pb.ContainerStatus | None:
        """A bot's container."""
        response = self.manager.GetContainerStatus(pb.GetContainerStatusRequest(bot_id=bot_id))
        return response.status if response.HasField("status") else None

    def explain(self, exc: grpc.RpcError) -> Problem:
        """Why a call failed."""
        return explain(exc, self.connection)

    def notice(self, text: str) -> None:
        """Tell in passing, without ending."""
        self.aside(f"botctl: {text}")

    def aside(self, text: str) -> None:
        """One line on standard error, less in sight than others."""
        # The console's own style would be that of a spinner below it, too.
        self.err.print(Text(text, style="dim"), soft_wrap=True)

    def close(self) -> None:
        """End every call that is under way."""
        if self._channel is not None:
            self._channel.close()

    def _open(self) -> grpc.Channel:
        if self._channel is None:
            self._channel = open_channel(self.connection)
        return self._channel


def session_of(ctx: click.Context) -> Session:
    """The session that the options say, wherever on the command line they stood. Raises :class:`Failure`."""
    kept = ctx.meta
    connection = Connection(
        kept.get("botctl.target") or Connection.target,
        kept.get("botctl.token_file") or Connection.token_file,
        tls_paths(*(kept.get(f"botctl.tls_{part}") for part in TLS_OPTIONS)),
    )
    return Session(connection, as_json=kept.get("botctl.output") == "json")
