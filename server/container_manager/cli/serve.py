"""``container-manager serve``."""

from __future__ import annotations

from typing import Any

import click

from container_manager.cli.options import log_options, server_options
from container_manager.cli.server_config import server_config


@click.command()
@server_options
@log_options
def serve(**options: Any) -> None:
    """Serve the ContainerManager and the ContainerObserver until SIGTERM or Ctrl-C."""
    config = server_config(options)
    from container_manager.logs import configure_logging
    from container_manager.rpc.server import Server
    from container_manager.rpc.startup_error import StartupError

    configure_logging(options["log_format"], options["log_level"])
    try:
        Server(config).run(lambda addresses: click.echo(f"container-manager serving on {' '.join(addresses)}"))
    except StartupError as exc:
        raise click.ClickException(str(exc)) from exc
