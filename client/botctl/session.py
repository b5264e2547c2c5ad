"""The context of a run: its connection, its stubs and its two output streams."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import click
import grpc

from botctl.bot_ids import is_bot_id, whole_ids
from botctl.connection import Connection, open_channel
from botctl.rendering.unsafe_text import printable
from botctl.rendering.yaml_text import DOCUMENT_FORMATS
from botctl.tls_files import TLS_OPTIONS, tls_paths
from botmaker.container.v1 import container_manager_pb2 as pb

if TYPE_CHECKING:
    from rich.console import Console

    from botctl.problems import Problem
    from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
    from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub
    from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
    from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub


class Session:
    """The context of one run. The channel opens at the first call, and :meth:`close` closes it."""

    def __init__(self, connection: Connection, *, as_json: bool = False) -> None:
        """``as_json``: the output is for programs, in JSON or, with the same content, in YAML."""
        self.connection = connection
        self.as_json = as_json
        self._channel: grpc.Channel | None = None

    @cached_property
    def manager(self) -> ContainerManagerStub:
        """The stub of the seven calls."""
        from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub

        return ContainerManagerStub(self._open())

    @cached_property
    def observer(self) -> ContainerObserverStub:
        """The stub of the streams."""
        from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub

        return ContainerObserverStub(self._open())

    @cached_property
    def provisioner(self) -> BotProvisionerStub:
        """The stub of secrets and files."""
        from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub

        return BotProvisionerStub(self._open())

    @cached_property
    def maintainer(self) -> ContainerMaintainerStub:
        """The stub of upgrades, backups and actions."""
        from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub

        return ContainerMaintainerStub(self._open())

    @cached_property
    def out(self) -> Console:
        """Standard output, for results."""
        from botctl.rendering.console import console

        return console(sys.stdout)

    @cached_property
    def err(self) -> Console:
        """Standard error, for progress and notices."""
        from botctl.rendering.console import console

        return console(sys.stderr)

    def containers(self, timeout: float | None = None) -> list[pb.ContainerStatus]:
        """The status of every managed container."""
        return list(self.manager.ListManagedContainers(pb.ListManagedContainersRequest(), timeout=timeout).containers)

    def whole_ids(self, given: Sequence[str]) -> list[str]:
        """Resolves ids, unique prefixes of ids and host names. Whole ids need no container and no call.

        Raises :class:`Failure`.
        """
        if all(is_bot_id(text.lower()) for text in given):
            return whole_ids(given, ())
        hostnames = {each.bot_id: each.hostname for each in self.containers()}
        return whole_ids(given, hostnames, hostnames)

    def whole_id(self, given: str) -> str:
        """The same for one bot."""
        return self.whole_ids([given])[0]

    def status(self, bot_id: str) -> pb.ContainerStatus | None:
        """The status of a bot's container. ``None`` if it has none."""
        response = self.manager.GetContainerStatus(pb.GetContainerStatusRequest(bot_id=bot_id))
        return response.status if response.HasField("status") else None

    def explain(self, exc: grpc.RpcError) -> Problem:
        """Why a call failed."""
        from botctl.problems import explain

        return explain(exc, self.connection)

    def notice(self, text: str) -> None:
        """Writes a notice that does not end the run."""
        self.aside(f"botctl: {text}")

    def aside(self, text: str) -> None:
        """Writes one dim line to standard error."""
        from rich.text import Text

        # A style of the console would also apply to a spinner below the line.
        self.err.print(Text(printable(text), style="dim"), soft_wrap=True)

    def close(self) -> None:
        """Ends every call in progress."""
        if self._channel is not None:
            self._channel.close()

    def _open(self) -> grpc.Channel:
        if self._channel is None:
            self._channel = open_channel(self.connection)
        return self._channel


def session_of(ctx: click.Context) -> Session:
    """The session for the options of the command line. Raises :class:`Failure`."""
    kept = ctx.meta
    connection = Connection(
        kept.get("botctl.target") or Connection.target,
        kept.get("botctl.token_file") or Connection.token_file,
        tls_paths(*(kept.get(f"botctl.tls_{part}") for part in TLS_OPTIONS)),
    )
    return Session(connection, as_json=kept.get("botctl.output") in DOCUMENT_FORMATS)
