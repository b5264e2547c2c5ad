"""``container-manager adopt``."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from container_manager.bot_locks import LOCK_FILE, BotLocks
from container_manager.cli.options import server_options
from container_manager.cli.server_config import ConfigurationError, server_config
from container_manager.config import BackendConfig
from container_manager.errors import ContainerManagerError
from container_manager.model import container_name


@click.command()
@click.option("--dry-run", is_flag=True, help="Change nothing, and say what would be done.")
@server_options
def adopt(dry_run: bool, **options: Any) -> None:
    """Rename the containers that BotMaker made, so that the service takes them over.

    BotMaker named them botmaker-HOSTNAME; each gets the name botmaker-BOT_ID. Running containers keep running. What is
    not certain is refused, with the reason.

    Give it the options of `serve`, and run it as the same user. The service may run meanwhile. The exit status is 1 if
    a container was refused or the engine does not answer, and 0 otherwise.
    """
    from container_manager.observability.log_format import escaped

    config = server_config(options, check_roots=False).service
    locks = None if dry_run else _locks(config)
    try:
        refused = asyncio.run(_adopt(config, locks))
    except ContainerManagerError as exc:
        raise click.ClickException(escaped(str(exc))) from exc
    finally:
        if locks is not None:
            locks.close()
    if refused:
        raise SystemExit(1)


def _locks(config: BackendConfig) -> BotLocks:
    root = config.secrets_root.path
    try:
        return BotLocks(root)
    except OSError as exc:
        raise ConfigurationError(
            f"the lock {root / LOCK_FILE}, which a running service shares, cannot be taken: {exc.strerror}; "
            "give the options of serve, and run this as the same user"
        ) from exc


async def _adopt(config: BackendConfig, locks: BotLocks | None) -> int:
    """Print a line for each container. Returns how many were refused."""
    from container_manager.backends.docker.adoption import adopt as adopt_all
    from container_manager.backends.docker.adoption import misnamed_containers
    from container_manager.engine.async_client import AsyncEngineClient
    from container_manager.observability.log_format import escaped

    engine = AsyncEngineClient(config.docker_host, timeout_seconds=config.engine_timeout_seconds)
    try:
        containers = await misnamed_containers(engine)
        if not containers:
            click.echo("nothing to adopt: every bot's container has the bot's name")
        width = max((len(each.name) for each in containers), default=0)
        done = "would adopt" if locks is None else "adopted"
        refused = 0
        async for each in adopt_all(engine, containers, locks):
            refused += bool(each.refusal)
            outcome, detail = ("refused", each.refusal) if each.refusal else (done, f"-> {container_name(each.bot_id)}")
            click.echo(f"{outcome:{len(done)}}  {escaped(each.name):{width}}  {escaped(detail)}")
        return refused
    finally:
        await engine.close()
