"""Checks of the engine: whether it answers, which API it has, and whether it can run bots."""

from __future__ import annotations

import time
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from container_manager.backends.docker.adoption import misnamed_containers
from container_manager.backends.docker.subnets import free_subnets, local_routes
from container_manager.bot_directories import BotUser
from container_manager.config import SUBNET_BITS, BackendConfig
from container_manager.doctor.finding import Finding, Verdict
from container_manager.doctor.host_checks import check_disk
from container_manager.doctor.sizes import size_text
from container_manager.engine.async_client import AsyncEngineClient
from container_manager.engine.networks import subnets
from container_manager.engine.timestamps import time_ns
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.engine.user_namespace import unusable_by_all_users, unusable_by_user, user_namespace
from container_manager.errors import ContainerManagerError, EngineAccessDeniedError, EngineTimeoutError
from container_manager.model import BotNetwork, PullPolicy
from container_manager.validation import is_bot_id

Json = dict[str, Any]

_TIMEOUT_SECONDS = 5.0
# Docker 20.10, the oldest release that the service is tested with.
_OLDEST_API = (1, 41)
# These copy the whole image for every container.
_WASTEFUL_DRIVERS = ("vfs",)
# What the engine shows for the version of an init process that it cannot run, or that is not docker-init.
_UNKNOWN_INIT = "N/A"
_DEFAULT_INIT = "docker-init"
_CLOCK_WARNING_SECONDS = 2.0
_SUBNETS_WARNING_SHARE = 0.10
# The service requests events from five seconds before its own time; with a larger difference it could miss some.
_CLOCK_FAILED_SECONDS = 5.0


class EngineCheck(NamedTuple):
    """What the engine has told."""

    findings: list[Finding]
    """A single one when it does not answer."""
    bots_user: BotUser | None = None
    """The user of this host that bots' files belong to; ``None``: the engine does not tell, or runs no bots."""


async def check_engine(config: BackendConfig, *, runs_bots: bool = True) -> EngineCheck:
    """Ask the engine.

    ``runs_bots``: bots run on this very engine, not on the nodes of a swarm that it manages.
    """
    engine = AsyncEngineClient(config.docker_host, timeout_seconds=_TIMEOUT_SECONDS)
    try:
        version = await engine.get_json("/version")
        asked = time.time()
        info = await engine.get_json("/info")
        answered = time.time()
        found = [
            Finding("engine", Verdict.OK, f"Docker Engine {version.get('Version')} answers at {config.docker_host}"),
            _api_version(str(version.get("ApiVersion") or "")),
        ]
        bots_user = None
        if runs_bots:
            namespace = user_namespace(info)
            bots_user = config.bot_user if namespace is None else namespace.on_host(config.bot_user)
            found += [
                _storage_driver(str(info.get("Driver") or "")),
                _users(info, config),
                *_init_process(info),
                await _default_image(engine, config),
                await _names(engine),
                *await _bot_networks(engine, config),
            ]
        return EngineCheck([*found, _clock(info, asked, answered), _engine_disk(info)], bots_user)
    except EngineAccessDeniedError as exc:
        return _failed(str(exc), "run it as a user in the group that owns the engine's socket")
    except EngineTimeoutError as exc:
        return _failed(
            str(exc), "the engine is there and hangs: see its log and its host's load and disk, then restart it"
        )
    except ContainerManagerError as exc:
        return _failed(str(exc), "start the engine, or give its address with --docker-host")
    except EngineRejectedError as exc:
        return _failed(f"it answers with an error: {exc}", "see the engine's log for the reason")
    finally:
        await engine.close()


def _failed(detail: str, remedy: str) -> EngineCheck:
    return EngineCheck([Finding("engine", Verdict.FAILED, detail, remedy)])


def _api_version(text: str) -> Finding:
    oldest = ".".join(map(str, _OLDEST_API))
    if tuple(int(part) for part in text.split(".") if part.isdigit()) < _OLDEST_API:
        return Finding("API version", Verdict.FAILED, f"{text}, older than {oldest}", "update Docker to 20.10 or later")
    return Finding("API version", Verdict.OK, f"{text}, at least {oldest}")


def _storage_driver(driver: str) -> Finding:
    if driver in _WASTEFUL_DRIVERS:
        detail = f"{driver}, which copies the whole image for every bot"
        remedy = "keep the engine's data on a file system that overlay2 takes, such as ext4 or xfs"
        return Finding("storage driver", Verdict.WARNING, detail, remedy)
    return Finding("storage driver", Verdict.OK, driver or "unknown")


def _users(info: Json, config: BackendConfig) -> Finding:
    name, user = "users", f"{config.bot_user.uid}:{config.bot_user.gid}"
    if any("name=rootless" in str(option) for option in info.get("SecurityOptions") or ()):
        detail = f"the engine is rootless: the bots' users are others on this host, and --bot-user is {user}"
        remedy = "give --bot-user as /etc/subuid and /etc/subgid have it for the engine's user, and the files to it"
        return Finding(name, Verdict.WARNING, detail, remedy)
    namespace = user_namespace(info)
    if namespace is None:
        return Finding(name, Verdict.OK, "the engine's containers have the users of this host")
    start = f"the engine remaps users, from {namespace.uid}:{namespace.gid} on"
    on_host = "{}:{}".format(*namespace.on_host(config.bot_user))
    roots = config.secrets_root, config.state_root
    paths = chain.from_iterable(root.path.glob("*") for root in roots if root is not None)
    bots = sorted({path.name for path in paths if is_bot_id(path.name)})
    if faults := list(unusable_by_all_users(*roots, bots, namespace, config.bot_user)):
        more = f" (and {len(faults) - 1} more bots)" if len(faults) > 1 else ""
        return Finding(name, Verdict.FAILED, f"{faults[0]}{more}", f"chown -R {on_host} the bots' secrets and state")
    if warnings := list(unusable_by_user(*roots, bots, namespace, config.bot_user)):
        more = f" (and {len(warnings) - 1} more bots)" if len(warnings) > 1 else ""
        remedy = f"chown -R {on_host} the bots' secrets and state, unless their image has another user"
        return Finding(name, Verdict.WARNING, f"{warnings[0]}{more}", remedy)
    return Finding(name, Verdict.OK, f"{start}, and --bot-user {user} is {on_host} of this host")


def _init_process(info: Json) -> list[Finding]:
    program = str(info.get("InitBinary") or "")
    # Podman names no program. It looks for one at each start.
    if not program:
        return []
    if (info.get("InitCommit") or {}).get("ID") != _UNKNOWN_INIT:
        return [Finding("init process", Verdict.OK, program)]
    if program == _DEFAULT_INIT:
        detail = f"the engine cannot run {program}, which every bot needs"
        remedy = (
            f"install {program} where the engine finds it; it is a part of Docker, or the program of the package tini"
        )
        return [Finding("init process", Verdict.FAILED, detail, remedy)]
    detail = f"the engine cannot tell the version of {program}, and may be unable to run it"
    return [Finding("init process", Verdict.WARNING, detail, "check the engine's setting init-path")]


async def _default_image(engine: AsyncEngineClient, config: BackendConfig) -> Finding:
    image = config.default_image
    document = await engine.find_json(f"/images/{image}/json")
    if document is None:
        remedy = f"build it with `make bot-image`, or run: docker pull {image}"
        if config.pull_policy is PullPolicy.NEVER:
            return Finding("default image", Verdict.FAILED, f"{image} is absent, and the pull policy is never", remedy)
        return Finding("default image", Verdict.WARNING, f"{image} is absent; the first create has to pull it", remedy)
    return Finding("default image", Verdict.OK, f"{image} is present ({size_text(document.get('Size') or 0)})")


async def _names(engine: AsyncEngineClient) -> Finding:
    found = await misnamed_containers(engine)
    if not found:
        return Finding("names", Verdict.OK, "no bot has a container of another name")
    one = (
        f"1 container, {found[0].name}, has"
        if len(found) == 1
        else f"{len(found)} containers, such as {found[0].name}, have"
    )
    detail = f"{one} the labels of a bot and another name, as BotMaker gave it; calls cannot change such bots"
    remedy = "container-manager adopt --dry-run says what an adoption would do; then run it without --dry-run"
    return Finding("names", Verdict.WARNING, detail, remedy)


async def _bot_networks(engine: AsyncEngineClient, config: BackendConfig) -> list[Finding]:
    if config.bot_network is not BotNetwork.ISOLATED:
        return []
    taken = list(chain.from_iterable(map(subnets, await engine.get_json("/networks"))))
    if config.docker_host.startswith("unix://"):
        taken += local_routes()
    pool = config.bot_network_pool
    free, all_ = sum(1 for _ in free_subnets(pool, taken)), 1 << (SUBNET_BITS - pool.prefixlen)
    detail = f"{free} of {all_} subnets of {pool} are free"
    if free >= all_ * _SUBNETS_WARNING_SHARE:
        return [Finding("bots' networks", Verdict.OK, detail)]
    remedy = "give a larger or another range with --bot-network-pool: networks and routes have the others"
    return [Finding("bots' networks", Verdict.WARNING if free else Verdict.FAILED, detail, remedy)]


def _clock(info: Json, asked: float, answered: float) -> Finding:
    nanoseconds = time_ns(info.get("SystemTime"))
    if nanoseconds is None:
        return Finding("clock", Verdict.WARNING, "the engine does not report its time", "check what answers there")
    # The engine read its clock between our two readings.
    engine = nanoseconds / 1e9
    off = max(asked - engine, engine - answered, 0.0)
    if off < _CLOCK_WARNING_SECONDS:
        return Finding("clock", Verdict.OK, "the clocks of the engine and of this process agree")
    verdict = Verdict.FAILED if off >= _CLOCK_FAILED_SECONDS else Verdict.WARNING
    return Finding("clock", verdict, f"the engine's clock is {off:.1f} s off", "synchronise both clocks with NTP")


def _engine_disk(info: Json) -> Finding:
    root = Path(str(info.get("DockerRootDir") or "/"))
    if not root.is_dir():
        return Finding("engine's disk", Verdict.OK, f"{root} is not visible from here")
    return check_disk("engine's disk", root)
