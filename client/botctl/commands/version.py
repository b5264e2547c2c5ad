"""``botctl version``."""

from __future__ import annotations

import click
from rich.table import Table

import container_manager_client
from botctl.options import with_session
from botctl.rendering.json_documents import write_document
from botctl.rendering.tables import print_table
from botctl.rendering.unsafe_text import printable
from botctl.session import Session
from botmaker.container.v1.container_observer_pb2 import GetServerInfoRequest


@click.command()
@with_session
def version(session: Session) -> None:
    """Show the versions of botctl, of the server and of what runs the containers."""
    info = session.observer.GetServerInfo(GetServerInfoRequest())
    if session.as_json:
        write_document(
            {
                "client": container_manager_client.__version__,
                "server": info.version,
                "backend": info.backend,
                "backend_version": info.backend_version,
                "services": list(info.services),
            }
        )
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("Client", container_manager_client.__version__)
    table.add_row("Server", printable(info.version))
    table.add_row("Backend", printable(f"{info.backend} {info.backend_version or '(does not answer)'}"))
    table.add_row("Services", ", ".join(name.rpartition(".")[2] for name in info.services))
    print_table(session.out, table)
