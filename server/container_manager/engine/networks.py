"""The engine's calls for networks of bots' own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Network
from typing import Any
from urllib.parse import quote

from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import EngineAccessDeniedError

Json = dict[str, Any]

# Docker's words, and Podman's.
_TAKEN = ("pool overlaps", "is already used")
_IN_USE = ("active endpoints", "being used", "not found", "no such network")


class NetworkClient(EngineClient):
    """Makes and removes networks of one engine, from any number of threads."""

    def list_networks(self, deadline: Deadline, label: str = "") -> list[Json]:
        """The engine's documents of all networks, or of those that carry ``label``."""
        query = f"?filters={quote(json.dumps({'label': [label]}))}" if label else ""
        networks: list[Json] = self._read(
            "list_networks", lambda api: json.loads(api.exchange("GET", f"/networks{query}")), deadline
        )
        return networks

    def has_containers(self, name: str, deadline: Deadline) -> bool:
        """Whether any container, running or not, has this network."""
        query = quote(json.dumps({"network": [name]}))
        path = f"/containers/json?all=1&filters={query}"
        return bool(self._read("list_containers", lambda api: json.loads(api.exchange("GET", path)), deadline))

    def create_bridge(self, name: str, subnet: IPv4Network, labels: dict[str, str]) -> bool:
        """Create a bridge network with these addresses. One request, never repeated; False: the subnet is taken."""
        body = {
            "Name": name,
            "Driver": "bridge",
            # Since API 1.44, the engine always refuses a second network of the same name.
            "CheckDuplicate": True,
            "EnableIPv6": False,
            "IPAM": {"Driver": "default", "Config": [{"Subnet": str(subnet)}]},
            "Labels": labels,
        }
        return self._unless(
            _TAKEN,
            lambda: self._call("create_network", lambda api: api.exchange("POST", "/networks/create", body), None),
        )

    def remove_network(self, network_id: str) -> bool:
        """Remove a network; False: it is gone already, or a container runs in it."""
        path = f"/networks/{network_id}"
        return self._unless(
            _IN_USE, lambda: self._call("remove_network", lambda api: api.exchange("DELETE", path), None)
        )

    @staticmethod
    def _unless(texts: tuple[str, ...], call: Callable[[], object]) -> bool:
        """Whether the call succeeds; False: the engine refuses it in these words."""
        try:
            call()
        except (EngineRejectedError, EngineAccessDeniedError) as exc:
            # Docker's status is 403, as if this process had no right to ask.
            if any(text in str(exc).lower() for text in texts):
                return False
            raise
        return True

    def connect(self, name: str, container_id: str) -> None:
        """Connect a container to the network that now has this name, in place of a former one of this name."""
        body = {"Container": container_id, "Force": True}
        # Refused if the container forgot the former one already.
        with suppress(EngineRejectedError):
            self._call(
                "disconnect_network", lambda api: api.exchange("POST", f"/networks/{name}/disconnect", body), None
            )
        self._call("connect_network", lambda api: api.exchange("POST", f"/networks/{name}/connect", body), None)


def subnets(network: Json) -> Iterator[IPv4Network]:
    """The IPv4 addresses of a network."""
    for pool in (network.get("IPAM") or {}).get("Config") or ():
        if "." in (pool.get("Subnet") or ""):
            yield IPv4Network(pool["Subnet"], strict=False)
