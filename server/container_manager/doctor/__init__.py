"""``container-manager doctor``: finds problems of an installation, before or while the service runs.

``engine_checks`` asks the engine, ``swarm_checks`` a swarm and its nodes. ``host_checks`` and ``secret_checks`` examine
directories and files, ``registry_checks`` the credentials for pulls, ``socket_checks`` and ``tcp_checks`` the
listeners, and ``observability_checks`` the endpoints of metrics and traces. Each check returns :class:`Finding` values
and changes nothing.
"""

from __future__ import annotations

import asyncio

from container_manager.addresses import UnixAddress, parse_address
from container_manager.bot_directories import BotUser, RootDirectory
from container_manager.config import ServerConfig
from container_manager.doctor.engine_checks import EngineCheck, check_engine
from container_manager.doctor.finding import Finding, Verdict
from container_manager.doctor.host_checks import check_backup_root, check_disk, check_root
from container_manager.doctor.registry_checks import check_registry_config
from container_manager.doctor.socket_checks import check_socket
from container_manager.doctor.tcp_checks import check_tcp
from container_manager.errors import StartupError
from container_manager.root_overlap import overlap
from container_manager.rpc.services import served_services

__all__ = ["Finding", "Verdict", "diagnose"]


async def diagnose(config: ServerConfig, *, running: bool = False) -> list[Finding]:
    """Check everything that ``serve`` needs with this configuration; the findings, in the order of the checks.

    ``running``: the service runs and serves its addresses, which otherwise have to be free.
    """
    findings, bots_user = await _check_backend(config)
    # Where the engine does not tell the owner of bots' secrets, any may be right.
    findings += _check_roots(config, bots_user)
    if config.service.registry_config is not None:
        findings += check_registry_config(config.service.registry_config)
    findings += _check_services(config)
    for text in config.listen:
        try:
            address = parse_address(text)
        except StartupError as exc:
            findings.append(Finding("listener", Verdict.FAILED, str(exc), "give another --listen"))
            continue
        if isinstance(address, UnixAddress):
            findings.append(check_socket(address.path, config.socket_mode, config.socket_group, running=running))
        else:
            findings += await check_tcp(address, config, running=running)
    if config.metrics_listen is not None or config.tracing is not None:
        # Import these only when they are needed, as the service does.
        from container_manager.doctor.observability_checks import check_metrics, check_tracing

        if config.metrics_listen is not None:
            findings.append(await check_metrics(config.metrics_listen, running=running))
        if config.tracing is not None:
            findings.append(await check_tracing(config.tracing))
    return findings


async def _check_backend(config: ServerConfig) -> EngineCheck:
    if config.swarm is None:
        return await check_engine(config.service)
    check = await check_engine(config.service, runs_bots=False)
    if check.findings[0].verdict is Verdict.FAILED:
        return check
    # Loaded here, as the service loads only the backend that it has.
    from container_manager.backends.swarm.service_spec import Weaker
    from container_manager.doctor.swarm_checks import check_swarm

    docker_host, shares = config.service.docker_host, config.swarm.placement == "floating"
    of_swarm = await asyncio.to_thread(
        check_swarm,
        docker_host,
        node_engines=config.swarm.node_engines,
        shared_state=config.service.state_root if shares else None,
        accepted=[Weaker(name) for name in config.swarm.allow_weaker],
    )
    return EngineCheck(check.findings + of_swarm)


def _check_services(config: ServerConfig) -> list[Finding]:
    if not config.services:
        return []
    try:
        served = served_services(config)
    except StartupError as exc:
        return [
            Finding("services", Verdict.FAILED, str(exc), "give other --services, such as ADDRESS=manager,observer")
        ]
    return [
        Finding("services", Verdict.OK, f"{address} serves {', '.join(service.name for service in services)}")
        for address, services in served.items()
    ]


def _check_roots(config: ServerConfig, bots_user: BotUser | None) -> list[Finding]:
    secrets, state = config.service.secrets_root, config.service.state_root
    findings = _check_root("secrets", secrets, bots_user) if config.swarm is None else []
    if state is not None:
        findings += _check_root("state", state)
        findings.append(Finding("state mount", Verdict.OK, f"{config.service.state_mount} in bots' containers"))
    if config.backup_root is not None:
        findings.append(check_backup_root(config.backup_root))
    if problem := overlap(secrets, state, config.backup_root):
        findings.append(Finding("roots", Verdict.FAILED, problem, "give each a directory of its own"))
    return findings


def _check_root(what: str, root: RootDirectory, secrets_of: BotUser | None = None) -> list[Finding]:
    findings = check_root(what, root.path, secrets_of=secrets_of)
    if root.path.is_dir():
        findings.append(check_disk(f"{what} root's disk", root.path))
    return findings
