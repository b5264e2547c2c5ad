"""Whether every node keeps a bot's processes from gaining privileges.

The setting is part of a service from API 1.44 on (Docker 25). An older node ignores it without a word, unless its
daemon runs with ``--no-new-privileges``, which such an engine does not tell: only the operator knows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from container_manager.backends.swarm.service_spec import BACKEND, Weaker
from container_manager.backends.swarm.status import node_name
from container_manager.errors import NotSupportedByBackendError

Json = dict[str, Any]

_FIRST_MAJOR = 25


def check_privileges(nodes: Iterable[Json], accepted: Collection[Weaker]) -> None:
    """Raise :class:`NotSupportedByBackendError` when a node may ignore it, unless the operator accepts that."""
    if Weaker.NO_NEW_PRIVILEGES in accepted:
        return
    for node in nodes:
        if not _keeps(node):
            raise NotSupportedByBackendError(
                f"the engine of node {node_name(node)} is older than 25.0 and may let bots gain privileges; run its "
                "daemon with --no-new-privileges, and accept it with --allow-weaker no-new-privileges",
                backend=BACKEND,
                node=node_name(node),
            )


def _keeps(node: Json) -> bool:
    version = str(((node.get("Description") or {}).get("Engine") or {}).get("EngineVersion") or "")
    major = version.partition(".")[0]
    return major.isdigit() and int(major) >= _FIRST_MAJOR
