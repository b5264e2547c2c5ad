"""``container-manager serve``."""

from __future__ import annotations

import logging
import os
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import click

from container_manager.backend import Backend, CallObserver
from container_manager.cli.garbage_collection import tune_garbage_collector
from container_manager.cli.options import log_options, server_options
from container_manager.cli.server_config import ConfigurationError, server_config
from container_manager.cli.service_manager import ServiceManager
from container_manager.config import ServerConfig
from container_manager.errors import AddressInUseError, StartupError
from container_manager.root_ownership import faults_above

# What deploy/systemd sets. Bounded, since a program that it starts may close all that it could have, one by one.
_MOST_DESCRIPTORS = 65_536


def _backend(config: ServerConfig) -> Callable[[CallObserver | None], Backend]:
    # Loaded here: neither costs the other's memory.
    if config.swarm is not None:
        from container_manager.backends.swarm.backend import SwarmBackend

        return partial(SwarmBackend, config.service, config.swarm)
    from container_manager.backends.docker.backend import DockerBackend

    return partial(DockerBackend, config.service)


@click.command()
@server_options
@log_options
def serve(**options: Any) -> None:
    """Serve the API until SIGTERM or Ctrl-C."""
    # The end of the terminal or session that started the service is not the end of the service.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    config = server_config(options)
    # gRPC's core writes what callers sent, tokens included, to standard error. It reads this variable when it is
    # loaded; to debug gRPC itself, set another level.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # The memory may hold a secret that is being written. With a limit of 0, the kernel would still pipe a core to a
    # program; with 1, it does neither (Linux, fs/coredump.c).
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (1 if hard else 0, hard))
    # The soft limit is often 1,024, for programs with select(), and limits connections and changes in progress.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < (most := min(hard, _MOST_DESCRIPTORS)):
        # The kernel refuses a hard limit above fs.nr_open, which may have been lowered since; a sandbox may too.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    from container_manager.observability.log_format import configure_logging
    from container_manager.rpc.server import Server

    configure_logging(options["log_format"], options["log_level"])
    roots = [root.path for root in (config.service.secrets_root, config.service.state_root) if root is not None]
    for path in [*roots, *([] if config.backup_root is None else [config.backup_root])]:
        for fault in faults_above(path):
            logging.getLogger(__name__).warning("%s: whoever that is can exchange %s", fault, path)
    manager = ServiceManager(os.environ)

    def on_serving(addresses: list[str]) -> None:
        click.echo(f"container-manager serving on {' '.join(addresses)}")
        tune_garbage_collector()
        manager.ready()

    try:
        server = Server(config, _backend(config))
        server.run(on_serving, manager.stopping)
    except AddressInUseError as exc:
        raise click.ClickException(str(exc)) from exc
    except StartupError as exc:
        raise ConfigurationError(str(exc)) from exc
