"""The command line. Every option is also an environment variable, ``CONTAINER_MANAGER_`` and its name.

``options`` declares what can be set, ``server_config`` makes a configuration of it, and each command is a module. What
a command runs is imported when it runs, so that ``--help`` and wrong options answer without loading gRPC and the Docker
SDK.
"""

from __future__ import annotations

import click

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
