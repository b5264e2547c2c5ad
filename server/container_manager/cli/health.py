"""``container-manager health``."""

from __future__ import annotations

import os

import click

from container_manager.cli.options import DEFAULT_LISTEN, variable
from container_manager.cli.param_types import Seconds


def _first(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """The first address of the variable, which is that of ``serve`` and separates addresses by spaces."""
    if ctx.get_parameter_source(str(param.name)) is click.core.ParameterSource.ENVIRONMENT:
        return (value.split() or [DEFAULT_LISTEN])[0]
    return value


@click.command()
@click.option(
    "--address",
    metavar="ADDRESS",
    default=DEFAULT_LISTEN,
    show_default=True,
    envvar=variable("--listen"),
    show_envvar=True,
    callback=_first,
    help="The service's address, as in its --listen; of the variable's addresses, the first.",
)
@click.option(
    "--timeout-seconds",
    type=Seconds(0.1, 3600),
    default=5,
    show_default=True,
    help="How long the answer may take.",
)
def health(address: str, timeout_seconds: float) -> None:
    """Ask a running service for its health. Prints one line.

    The exit status is 0 while the service and its engine answer, and 1 otherwise. Over TCP no token is needed. This
    command cannot ask a listener with TLS, which needs a client certificate: add a unix socket, and ask that.
    """
    # As in `serve`: gRPC's core would report a refused connection a second time.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from container_manager.cli.health_probe import UnhealthyError, probe_health

    try:
        probe_health(address, timeout_seconds)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--address") from exc
    except UnhealthyError as exc:
        raise click.ClickException(str(exc)) from exc
    click.echo(f"{address} is serving")
