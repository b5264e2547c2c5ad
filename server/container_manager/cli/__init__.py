"""The command line. Every option is also an environment variable, ``CONTAINER_MANAGER_`` and its name.

``options`` declares the options, ``server_config`` builds a configuration from them, and each command is a module. A
command imports what it runs when it runs, so that ``--help`` and invalid options do not load gRPC and the Docker SDK.
"""

from __future__ import annotations

import click

from container_manager.cli.adopt import adopt
from container_manager.cli.doctor import doctor
from container_manager.cli.health import health
from container_manager.cli.serve import serve

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="botmaker-container-manager")
def main() -> None:
    """Own one Docker container per bot, so that nothing else needs the Docker socket."""


main.add_command(serve)
main.add_command(doctor)
main.add_command(health)
main.add_command(adopt)
