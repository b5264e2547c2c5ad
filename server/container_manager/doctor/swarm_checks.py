"""Checks of a Docker Swarm: its managers and nodes, and what all nodes have to agree in.

A manager knows which nodes there are and whether it hears from them. What only a node's own engine knows (its clock,
its daemon's settings, its files) is checked where the operator names that engine; a finding says where it could not be.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from container_manager.backends.swarm.service_spec import Weaker
from container_manager.backends.swarm.status import is_down, node_name
from container_manager.bot_directories import RootDirectory
from container_manager.deadline import Deadline
from container_manager.doctor.finding import Finding, Verdict
from container_manager.doctor.node_engines import NodeEngine, ask
from container_manager.engine.swarm import SwarmClient
from container_manager.engine.timestamps import time_ns
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import ContainerManagerError

Json = dict[str, Any]

_TIMEOUT_SECONDS = 5.0
_OLDEST_ENGINE = (20, 10)
# API 1.44, the first one in which a service's no-new-privileges has an effect.
_KEEPS_NO_NEW_PRIVILEGES = (25, 0)
_NO_NEW_PRIVILEGES = "name=no-new-privileges"
_CGROUP_NAMESPACES = "name=cgroupns"
_CLOCK_SECONDS = 2.0
_FEWEST_SAFE_MANAGERS = 3
_NAMES_SHOWN = 5


def check_swarm(
    docker_host: str,
    *,
    node_engines: Mapping[str, str],
    shared_state: RootDirectory | None,
    accepted: Collection[Weaker],
) -> list[Finding]:
    """Findings about the swarm of the manager at ``docker_host``; a single finding when that is no manager of one.

    ``node_engines``: addresses of engines by the host names or the ids of their nodes. ``shared_state``: the root of
    states if all nodes have to have it. ``accepted``: what the operator accepts to be weaker. Blocks for some seconds
    at most.
    """
    client = SwarmClient(docker_host, timeout_seconds=_TIMEOUT_SECONDS)
    try:
        info = client.info(Deadline(_TIMEOUT_SECONDS)).get("Swarm") or {}
        if problem := _no_manager(info):
            return [problem]
        nodes = client.list_nodes(Deadline(_TIMEOUT_SECONDS))
        tasks = client.list_tasks(Deadline(_TIMEOUT_SECONDS))
    except (ContainerManagerError, EngineRejectedError) as exc:
        remedy = "start managers again until more than half of them run; until then running bots go on, and calls fail"
        return [Finding("swarm", Verdict.FAILED, f"the manager does not answer for the swarm: {exc}", remedy)]
    finally:
        client.close()
    names = {node["ID"]: node_name(node) for node in nodes}
    engines = ask({names.get(node, node): address for node, address in node_engines.items()}, shared_state)
    return [
        Finding("swarm", Verdict.OK, f"the engine is a manager of a swarm of {len(nodes)} nodes"),
        managers(nodes),
        bots_on_managers(nodes),
        reachable(nodes),
        versions(nodes),
        named_engines(nodes, engines),
        no_new_privileges(nodes, engines, accepted),
        cgroup_namespaces(nodes, engines),
        clocks(nodes, engines, tasks),
        *([] if shared_state is None else [shared_storage(nodes, engines, shared_state)]),
    ]


def _no_manager(swarm: Json) -> Finding | None:
    if swarm.get("LocalNodeState") in (None, "", "inactive"):
        remedy = "docker swarm init on that engine, or give the address of a manager with --docker-host"
        return Finding("swarm", Verdict.FAILED, "the engine is not a part of a swarm", remedy)
    if not swarm.get("ControlAvailable"):
        remedy = "give the address of a manager with --docker-host"
        return Finding("swarm", Verdict.FAILED, "the engine is a worker of its swarm, which cannot create bots", remedy)
    return None


def managers(nodes: Sequence[Json]) -> Finding:
    """Whether the managers answer each other, and whether the swarm survives the loss of one."""
    name = "managers"
    all_managers = [node for node in nodes if _is_manager(node)]
    silent = [node for node in all_managers if (node.get("ManagerStatus") or {}).get("Reachability") != "reachable"]
    needed = len(all_managers) // 2 + 1
    if silent:
        left = len(all_managers) - len(silent)
        detail = f"{_names(silent)} cannot be reached: {left} of {len(all_managers)} can, and {needed} are needed"
        return Finding(name, Verdict.FAILED, detail, "start them; or demote and remove them, and promote other nodes")
    if len(all_managers) < _FEWEST_SAFE_MANAGERS:
        one = "there is only one" if len(all_managers) == 1 else "there are only two"
        detail = f"{one}, and without {_names(all_managers)} no call works and no bot moves"
        return Finding(name, Verdict.WARNING, detail, "make it three, on machines of their own: docker node promote")
    lost = len(all_managers) - needed
    return Finding(name, Verdict.OK, f"{len(all_managers)} can be reached, and the swarm works without {lost} of them")


def bots_on_managers(nodes: Sequence[Json]) -> Finding:
    """Whether bots may run on managers."""
    name = "bots on managers"
    takes = [node for node in nodes if _is_manager(node) and _availability(node) == "active"]
    if not takes:
        return Finding(name, Verdict.OK, "the managers are drained")
    if len(nodes) == 1:
        return Finding(name, Verdict.OK, f"{_names(nodes)} is the only node, and has to run them")
    detail = f"{_names(takes)} may run bots: when a leader dies, its own bots are back much later than a worker's"
    remedy = f"docker node update --availability drain {node_name(takes[0])}"
    return Finding(name, Verdict.WARNING, detail, f"{remedy}, and so on")


def reachable(nodes: Sequence[Json]) -> Finding:
    """Whether the managers hear from all nodes, and whether any takes bots."""
    name = "nodes"
    down = [node for node in nodes if is_down(node)]
    if down:
        reason = (down[0].get("Status") or {}).get("Message") or (down[0].get("Status") or {}).get("State")
        detail = f"nothing is heard from {_names(down)}: {reason}"
        return Finding(name, Verdict.FAILED, detail, "start the machine and its engine, or run: docker node rm")
    if not any(_availability(node) == "active" for node in nodes):
        remedy = "add workers, or run: docker node update --availability active"
        return Finding(name, Verdict.FAILED, "none takes bots: all are drained or paused", remedy)
    paused = [node for node in nodes if _availability(node) == "pause"]
    if paused:
        remedy = f"docker node update --availability active {node_name(paused[0])}, and so on"
        return Finding(name, Verdict.WARNING, f"{_names(paused)} are paused and take no new bots", remedy)
    return Finding(name, Verdict.OK, f"{_names(nodes)} are ready")


def versions(nodes: Sequence[Json]) -> Finding:
    """Whether all engines are recent enough, and of one version."""
    name = "node versions"
    found: dict[str, list[Json]] = defaultdict(list)
    for node in nodes:
        found[_version_text(node)].append(node)
    told = "; ".join(f"{version} on {_names(those)}" for version, those in sorted(found.items()))
    if any(_version(node) < _OLDEST_ENGINE for node in nodes):
        return Finding(name, Verdict.FAILED, f"{told}: older than 20.10", "update Docker to 20.10 or later")
    if len(found) > 1:
        remedy = "update the others too; a swarm keeps only what its oldest engine can"
        return Finding(name, Verdict.WARNING, told, remedy)
    return Finding(name, Verdict.OK, told)


def named_engines(nodes: Sequence[Json], engines: Sequence[NodeEngine]) -> Finding:
    """Whether the engines that the operator has named are those of their nodes."""
    name = "node engines"
    for engine in engines:
        remedy = f"give another --node-engine {engine.node}=…, or none"
        node = next((node for node in nodes if node_name(node) == engine.node), None)
        if node is None:
            return Finding(name, Verdict.FAILED, f"the swarm has no node {engine.node}", remedy)
        if engine.problem:
            return Finding(name, Verdict.FAILED, f"{engine.node}: {engine.problem}", remedy)
        if (engine.info.get("Swarm") or {}).get("NodeID") != node["ID"]:
            other = engine.info.get("Name") or "another machine"
            return Finding(name, Verdict.FAILED, f"{engine.address} is not {engine.node} but {other}", remedy)
    unnamed = _unnamed(nodes, engines)
    if unnamed:
        return Finding(name, Verdict.OK, f"no stats of bots on {_names(unnamed)}: no --node-engine names its engine")
    return Finding(name, Verdict.OK, f"all {len(engines)} answer")


def no_new_privileges(nodes: Sequence[Json], engines: Sequence[NodeEngine], accepted: Collection[Weaker]) -> Finding:
    """Whether a bot's processes cannot gain privileges, on whichever node it runs."""
    name, option = "no-new-privileges", f"--allow-weaker {Weaker.NO_NEW_PRIVILEGES.value}"
    old = [node for node in nodes if _version(node) < _KEEPS_NO_NEW_PRIVILEGES]
    if not old:
        return Finding(name, Verdict.OK, "every node's engine keeps it")
    remedy = "update Docker to 25.0 or later; else run each such daemon with --no-new-privileges"
    if Weaker.NO_NEW_PRIVILEGES not in accepted:
        detail = f"{_names(old)}: engines before 25.0 ignore it in services, so creates are refused"
        return Finding(name, Verdict.FAILED, detail, f"{remedy} and give {option}")
    sure = {each.node for each in engines if _NO_NEW_PRIVILEGES in (each.info.get("SecurityOptions") or ())}
    unsure = [node for node in old if node_name(node) not in sure]
    if unsure:
        detail = f"{_names(unsure)}: accepted with {option}; whether its daemon has it, the engine does not tell"
        return Finding(name, Verdict.WARNING, detail, remedy)
    return Finding(name, Verdict.OK, f"every node keeps it, {_names(old)} by the setting of its daemon")


def cgroup_namespaces(nodes: Sequence[Json], engines: Sequence[NodeEngine]) -> Finding:
    """Whether each bot has a control group namespace of its own, which a service cannot ask for."""
    name = "cgroup namespaces"
    shared = [
        each.node
        for each in engines
        if each.info and _CGROUP_NAMESPACES not in (each.info.get("SecurityOptions") or ())
    ]
    if shared:
        detail = f"bots on {', '.join(sorted(shared)[:_NAMES_SHOWN])} share the control group namespace of their host"
        return Finding(name, Verdict.WARNING, detail, "run each such daemon with --default-cgroupns-mode=private")
    if unknown := _unnamed(nodes, [each for each in engines if each.info]):
        return Finding(name, Verdict.OK, f"not known of {_names(unknown)}: no engine answers that --node-engine names")
    return Finding(name, Verdict.OK, "each bot has its own on every node")


def clocks(nodes: Sequence[Json], engines: Sequence[NodeEngine], tasks: Sequence[Json]) -> Finding:
    """Whether the nodes' clocks agree with this one's, or at least with the manager's."""
    name = "node clocks"
    off = {engine.node: engine.seconds_off for engine in engines if engine.info}
    unknown = []
    for node in nodes:
        if node_name(node) in off:
            continue
        seconds = _task_clock(node["ID"], tasks)
        if seconds is None:
            unknown.append(node)
        else:
            off[node_name(node)] = seconds
    wrong = {node: seconds for node, seconds in off.items() if abs(seconds) >= _CLOCK_SECONDS}
    if wrong:
        told = ", ".join(f"{node}'s is {seconds:+.1f} s off" for node, seconds in sorted(wrong.items())[:_NAMES_SHOWN])
        return Finding(name, Verdict.WARNING, told, "synchronise the clocks of all nodes with NTP")
    if unknown:
        rest = f"{', '.join(sorted(off)) or 'no node'} in time; not known of {_names(unknown)}: no --node-engine"
        return Finding(name, Verdict.OK, f"{rest} names its engine, and its last task does not tell")
    return Finding(name, Verdict.OK, "the clocks of all nodes agree")


def shared_storage(nodes: Sequence[Json], engines: Sequence[NodeEngine], root: RootDirectory) -> Finding:
    """Whether the root of states is the same storage on all nodes that may run bots."""
    name, path = "shared storage", root.path
    wrong = [engine.node for engine in engines if engine.shares_state is False]
    if wrong:
        detail = f"on {', '.join(wrong[:_NAMES_SHOWN])}, a bot's state is not the one in {path} here"
        return Finding(name, Verdict.FAILED, detail, f"mount the same file system at {path} on every node")
    same = {engine.node for engine in engines if engine.shares_state}
    unknown = [node for node in nodes if node_name(node) not in same and _availability(node) != "drain"]
    if unknown:
        detail = f"not known of {_names(unknown)}: it shows where --node-engine names the engine and a bot has a state"
        return Finding(name, Verdict.WARNING, detail, f"see that {path} is the same file system there")
    return Finding(name, Verdict.OK, f"{path} is the same on all nodes")


def _task_clock(node_id: str, tasks: Iterable[Json]) -> float | None:
    """How far a node's clock is from its manager's by its tasks; ``None``: they do not tell.

    The node writes a task's state with its own time, and the manager notes when the task last changed. A change that is
    not the node's comes later, so only the smallest difference counts, and a large one says nothing.
    """
    late = []
    for task in tasks:
        noted, written = time_ns(task.get("UpdatedAt")), time_ns((task.get("Status") or {}).get("Timestamp"))
        if task.get("NodeID") == node_id and noted is not None and written is not None:
            late.append((noted - written) / 1e9)
    if not late or min(late) >= _CLOCK_SECONDS:
        return None
    return max(0.0, -min(late))


def _is_manager(node: Json) -> bool:
    return bool((node.get("Spec") or {}).get("Role") == "manager")


def _availability(node: Json) -> str:
    return str((node.get("Spec") or {}).get("Availability") or "")


def _version_text(node: Json) -> str:
    return str(((node.get("Description") or {}).get("Engine") or {}).get("EngineVersion") or "unknown")


def _version(node: Json) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)", _version_text(node))
    return tuple(int(part) for part in found.groups()) if found else (0, 0)


def _unnamed(nodes: Sequence[Json], engines: Sequence[NodeEngine]) -> list[Json]:
    named = {engine.node for engine in engines}
    return [node for node in nodes if node_name(node) not in named]


def _names(nodes: Sequence[Json]) -> str:
    """The nodes' names, of many only the first."""
    names = sorted(node_name(node) or node["ID"] for node in nodes)
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more
