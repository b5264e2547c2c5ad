"""Whether every node keeps a bot's processes from gaining privileges.

The setting is part of a service from API 1.44 on (Docker 25). An older node ignores it without a word, unless its
daemon runs with ``--no-new-privileges``, which only that node's own engine tells.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from container_manager.backends.swarm.bot_services import BotServices
from container_manager.backends.swarm.service_spec import BACKEND, Weaker
from container_manager.backends.swarm.status import node_name
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import ContainerManagerError, NotSupportedByBackendError

Json = dict[str, Any]

_FIRST_MAJOR = 25
_OPTION = "name=no-new-privileges"
_ASK_SECONDS = 5.0


class Privileges:
    """Of the nodes of one swarm, for any number of threads."""

    def __init__(
        self,
        services: BotServices,
        node_engines: Mapping[str, str],
        *,
        accepted: Collection[Weaker],
    ) -> None:
        """``node_engines``: URLs of nodes' own engines, by host names."""
        self._services = services
        self._node_engines = node_engines
        self._accepted = Weaker.NO_NEW_PRIVILEGES in accepted
        # A daemon's setting changes with its restart only, and a node that joins has an id of its own.
        self._safe: set[str] = set()

    def check(self, deadline: Deadline) -> None:
        """Raise :class:`NotSupportedByBackendError` when a node may ignore it, unless the operator accepts that."""
        if self._accepted:
            return
        for node_id, node in self._services.nodes(deadline).items():
            if node_id not in self._safe and not knows_setting(node):
                self._check_daemon(node, deadline)
                self._safe.add(node_id)

    def _check_daemon(self, node: Json, deadline: Deadline) -> None:
        name = node_name(node)
        url = self._node_engines.get(name) or self._node_engines.get(node["ID"])
        if url is not None and daemon_forbids(url, deadline):
            return
        raise NotSupportedByBackendError(
            f"the engine of node {name} is older than 25.0 and would let bots gain privileges; run its daemon with "
            "--no-new-privileges and name it with --node-engine, or accept it with --allow-weaker no-new-privileges",
            backend=BACKEND,
            field="no_new_privileges",
        )


def knows_setting(node: Json) -> bool:
    """Whether the node's engine keeps to the setting of a service."""
    version = str(((node.get("Description") or {}).get("Engine") or {}).get("EngineVersion") or "")
    major = version.partition(".")[0]
    return major.isdigit() and int(major) >= _FIRST_MAJOR


def daemon_forbids(url: str, deadline: Deadline) -> bool:
    """Whether the engine's own setting keeps all processes from gaining privileges; False also without an answer."""
    engine = EngineClient(url, timeout_seconds=_ASK_SECONDS)
    try:
        return _OPTION in (engine.info(deadline).get("SecurityOptions") or ())
    except (ContainerManagerError, EngineRejectedError):
        return False
    finally:
        engine.close()
