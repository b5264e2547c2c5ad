"""``container-manager health``."""

from __future__ import annotations

import os

import click

from container_manager.cli.options import DEFAULT_LISTEN, Seconds, variable


def _first(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """One address: the variable is the one of ``serve``, whose addresses are separated by spaces."""
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
    help="Where the service listens, as its --listen says it; of the variable's addresses the first.",
)
@click.option(
    "--timeout-seconds",
    type=Seconds(0.1, 3600),
    default=5,
    show_default=True,
    help="How long the answer may take.",
)
def health(address: str, timeout_seconds: float) -> None:
    """Ask a running service whether it serves: in one line, and by the exit status.

    It is 0 while the service answers and its engine does, and 1 otherwise. TCP needs no token for this. A listener with
    TLS cannot be asked, as that needs a client's certificate: let the service have a unix socket, too, and ask that.
    """
    # As in `serve`: a refused connection is told here, and not by gRPC's core as well.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from container_manager.cli.health_probe import UnhealthyError, probe_health

    try:
        probe_health(address, timeout_seconds)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--address") from exc
    except UnhealthyError as exc:
        raise click.ClickException(str(exc)) from exc
    click.echo(f"{address} is serving")
