"""``botctl create``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from botctl.bot_ids import new_bot_id
from botctl.commands.reporting import report
from botctl.exit_codes import ExitCode, Failure
from botctl.options import with_session
from botctl.parallel import Result
from botctl.param_types import COUNT, CPUS, HOST, PORT, SIZE, VARIABLE
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
    request_id: str,
) -> pb.CreateContainerRequest:
    """The request for the options."""
    config = pb.ContainerConfig(
        image=image,
        ai_provider=provider,
        ai_model=model,
        channel_type=channel,
        environment=_once("--env", env),
        ports=port,
        network=network,
        extra_hosts=_once("--add-host", add_host),
        command=command,
    )
    if memory or cpus or pids_limit:
        limits = pb.ResourceLimits(memory_bytes=memory, nano_cpus=cpus, pids_limit=pids_limit)
        config.resources.CopyFrom(limits)
    return pb.CreateContainerRequest(bot_id=new_bot_id(bot_id), config=config, request_id=request_id)


def _once(option: str, pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise Failure(f"{option} is given twice for {name!r}", ExitCode.USAGE)
        found[name] = value
    return found
