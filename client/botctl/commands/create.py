"""``botctl create``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import click
from google.protobuf.duration_pb2 import Duration

from botctl.bot_ids import new_bot_id
from botctl.commands.reporting import report
from botctl.exit_codes import ExitCode, Failure
from botctl.options import once, with_session
from botctl.parallel import Result
from botctl.param_types import COUNT, CPUS, DURATION, HOST, LABEL, PORT, RETRIES, SIZE, VARIABLE
from botctl.selection import Selected
from botctl.session import Session
from botmaker.container.v1 import container_manager_pb2 as pb


@click.command()
@click.argument("bot_id", metavar="BOT")
@click.argument("command", metavar="[-- COMMAND...]", nargs=-1)
@click.option("--image", metavar="IMAGE", default="", help="Image reference.  [default: the service's default image]")
@click.option("--provider", metavar="NAME", default="", help="AI provider, AI_PROVIDER in the bot.")
@click.option("--model", metavar="NAME", default="", help="Model, AI_MODEL in the bot.")
@click.option("--channel", metavar="TYPE", default="", help="Channel type, CHANNEL_TYPE in the bot.")
@click.option(
    "--env",
    "-e",
    type=VARIABLE,
    multiple=True,
    metavar="NAME=VALUE",
    help="Additional variable. Not for secrets: the engine's inspect output shows it. Repeatable.",
)
@click.option(
    "--port",
    "-p",
    type=PORT,
    multiple=True,
    metavar="[[IP:]HOST:]PORT[/PROTOCOL]",
    help="Publish a port (tcp, udp or sctp), by default on a free port of 127.0.0.1. Repeatable.",
)
@click.option("--network", metavar="NAME", default="", help='A bridge or user-defined network, or "none".')
@click.option(
    "--add-host",
    type=HOST,
    multiple=True,
    metavar="NAME:ADDRESS",
    help='Add an entry to the hosts file; the address may be "host-gateway". Repeatable.',
)
@click.option(
    "--memory", "-m", type=SIZE, metavar="SIZE", default="0", help="Memory limit including swap, such as 512m or 1.5g."
)
@click.option("--cpus", type=CPUS, metavar="NUMBER", default="0", help="Limit of CPUs, such as 1.5.")
@click.option("--pids-limit", type=COUNT, metavar="N", default="0", help="Limit of processes and threads.")
@click.option("--hostname", metavar="NAME", default="", help="The bot's name: host name and label of the container.")
@click.option(
    "--label",
    "-l",
    type=LABEL,
    multiple=True,
    metavar="KEY=VALUE",
    help="A label of your own, for --label of list and watch. Repeatable.",
)
@click.option(
    "--health-cmd",
    metavar="COMMAND",
    default="",
    help="Program and arguments that check the bot's health, in place of the image's own check. No shell runs it.",
)
@click.option("--health-interval", type=DURATION, metavar="DURATION", help="Time between two checks, such as 30s.")
@click.option("--health-timeout", type=DURATION, metavar="DURATION", help="Time after which a check has failed.")
@click.option(
    "--health-start-period",
    type=DURATION,
    metavar="DURATION",
    help="Time in which failures do not count.",
)
@click.option(
    "--health-retries", type=RETRIES, metavar="N", default="0", help="Failures in a row that make the bot unhealthy."
)
@click.option(
    "--request-id", metavar="ID", default="", help="Makes a retry safe: the same id returns the same container."
)
@with_session
def create(session: Session, bot_id: str, **options: Any) -> None:
    """Create a bot's container without starting it.

    BOT must be a whole id here, a UUID. The bot's secrets directory must exist. COMMAND, after --, replaces the image's
    own command.
    """
    request = create_request(bot_id, **options)

    def work(bot: Selected) -> Result:
        container_id = session.manager.CreateContainer(request).container_id
        return Result(bot.bot_id, "created", details={"container_id": container_id})

    report(session, [Selected(request.bot_id, None)], work, doing="creating", parallel=1)


def create_request(
    bot_id: str,
    *,
    command: Sequence[str],
    image: str,
    provider: str,
    model: str,
    channel: str,
    env: Sequence[tuple[str, str]],
    port: Sequence[pb.PortBinding],
    network: str,
    add_host: Sequence[tuple[str, str]],
    memory: int,
    cpus: int,
    pids_limit: int,
    hostname: str,
    label: Sequence[tuple[str, str]],
    request_id: str,
    **health: Any,
) -> pb.CreateContainerRequest:
    """The request for the options."""
    config = pb.ContainerConfig(
        image=image,
        ai_provider=provider,
        ai_model=model,
        channel_type=channel,
        environment=once("--env", env),
        ports=port,
        network=network,
        extra_hosts=once("--add-host", add_host),
        command=command,
        health_check=_health_check(**health),
        hostname=hostname,
        labels=once("--label", label),
    )
    if memory or cpus or pids_limit:
        limits = pb.ResourceLimits(memory_bytes=memory, nano_cpus=cpus, pids_limit=pids_limit)
        config.resources.CopyFrom(limits)
    return pb.CreateContainerRequest(bot_id=new_bot_id(bot_id), config=config, request_id=request_id)


def _health_check(
    *,
    health_cmd: str,
    health_interval: Duration | None,
    health_timeout: Duration | None,
    health_start_period: Duration | None,
    health_retries: int,
) -> pb.HealthCheck | None:
    if not health_cmd:
        if health_interval or health_timeout or health_start_period or health_retries:
            raise Failure("the other --health options go with --health-cmd", ExitCode.USAGE)
        return None
    try:
        command = shlex.split(health_cmd)
    except ValueError as exc:
        raise Failure(f"--health-cmd cannot be split into a program and its arguments: {exc}", ExitCode.USAGE) from exc
    return pb.HealthCheck(
        command=command,
        interval=health_interval,
        timeout=health_timeout,
        start_period=health_start_period,
        retries=health_retries,
    )
