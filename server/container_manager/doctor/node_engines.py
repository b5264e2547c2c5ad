"""What the engines of a swarm's nodes say, as far as the operator has named them: a manager does not pass it on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from container_manager.backends.bot_container import LABEL_MANAGED
from container_manager.bot_directories import RootDirectory
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.engine.timestamps import time_ns
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import ContainerManagerError

Json = dict[str, Any]

_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True)
class NodeEngine:
    """The answers of one node's engine; without a problem they are complete."""

    node: str
    """The node's host name, as the operator has given it."""
    address: str
    problem: str = ""
    info: Json = field(default_factory=dict)
    seconds_off: float = 0.0
    """How far its clock is from this process's at least; ahead is positive."""
    shares_state: bool | None = None
    """Whether the state of a bot that runs there is the one at the same path here; ``None``: no bot tells."""


def ask(engines: Mapping[str, str], shared_state: RootDirectory | None) -> list[NodeEngine]:
    """Ask all engines at once. ``engines``: addresses by nodes; ``shared_state``: the root of states on all nodes."""
    if not engines:
        return []
    with ThreadPoolExecutor(len(engines)) as pool:
        return list(pool.map(lambda each: _ask(each[0], each[1], shared_state), engines.items()))


def _ask(node: str, address: str, shared_state: RootDirectory | None) -> NodeEngine:
    engine = EngineClient(address, timeout_seconds=_TIMEOUT_SECONDS)
    try:
        # One call before, so that the clocks are not compared across the making of a connection.
        engine.ping(_deadline())
        asked = time.time()
        info = engine.info(_deadline())
        answered = time.time()
        shares = None if shared_state is None else _shares(engine, shared_state)
    except (ContainerManagerError, EngineRejectedError) as exc:
        return NodeEngine(node, address, problem=str(exc))
    finally:
        engine.close()
    return NodeEngine(node, address, "", info, _off(info, asked, answered), shares)


def _off(info: Json, asked: float, answered: float) -> float:
    moment = time_ns(info.get("SystemTime"))
    if moment is None:
        return 0.0
    # The engine read its clock between our two readings.
    engine = moment / 1e9
    return engine - answered if engine > answered else min(engine - asked, 0.0)


def _shares(engine: EngineClient, root: RootDirectory) -> bool | None:
    """Whether a bot's state there has the same time and mode as here."""
    for container in engine.list_containers(f"{LABEL_MANAGED}=true", _deadline()):
        for mount in container.get("Mounts") or ():
            source = Path(str(mount.get("Source") or ""))
            if source.parent != root.engine_path:
                continue
            here = root.path / source.name
            before = _stat(here)
            there = engine.stat(container["Id"], mount["Destination"], _deadline())
            if there is not None:
                # The bot may be writing.
                return time_ns(there.get("mtime")) in {before, _stat(here)}
    return None


def _stat(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _deadline() -> Deadline:
    return Deadline(_TIMEOUT_SECONDS)
