"""``botctl inspect``."""

from __future__ import annotations

import click
import grpc

from botctl.exit_codes import ExitCode, Failure, show_error
from botctl.options import bot_id_argument, with_session
from botctl.rendering.json_documents import config_document, status_document, write_document
from botctl.session import Session
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_observer_pb2 import GetContainerConfigRequest


@click.command()
@bot_id_argument
@with_session
def inspect(session: Session, bot_id: str) -> None:
    """Show a bot's configuration and status, in JSON or YAML.

    The configuration is the one that would make the bot's container again. What comes from the image is left out. The
    configuration of a container that no create could have made is null.
    """
    if click.get_current_context().meta.get("botctl.output") == "table":
        raise click.UsageError("inspect writes json, which is its default, or yaml")
    bot_id = session.whole_id(bot_id)
    status = session.status(bot_id)
    if status is None:
        raise Failure(f"{bot_id}: has no container; create one with: botctl create {bot_id}", ExitCode.NOT_FOUND)
    config, problem = None, None
    try:
        config = session.observer.GetContainerConfig(GetContainerConfigRequest(bot_id=bot_id)).config
    except grpc.RpcError as exc:
        problem = session.explain(exc)
        if problem.reason != "CONFIG_NOT_REPRODUCIBLE":
            raise
    write_document(_document(status, config))
    if problem is not None:
        show_error(f"{bot_id}: {problem.message}")
        click.get_current_context().exit(problem.exit_code)


def _document(status: pb.ContainerStatus, config: pb.ContainerConfig | None) -> dict[str, object]:
    return {
        "bot_id": status.bot_id,
        "config": None if config is None else config_document(config),
        "status": status_document(status),
    }
