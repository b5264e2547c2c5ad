"""Calls to a manager of a Docker Swarm: services, tasks, nodes, secrets and images' digests.

A manager that has no leader holds every call for up to 20 s and then fails it: reads end with their deadline, and
changes with the client's time-out. Documents are the engine's own JSON (Docker Engine API 1.41 and later).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.engine.sdk_client import Json, SdkClient
from container_manager.engine.transport_errors import EngineRejectedError

_OUT_OF_SEQUENCE = "update out of sequence"


class SwarmClient(EngineClient):
    """Calls to one manager, from any number of threads. Errors are those of :class:`EngineClient`."""

    def list_services(self, deadline: Deadline, **filters: Collection[str]) -> list[Json]:
        """The services that match all filters, such as ``label=["a=b"]``."""
        return self._list("list_services", "/services", filters, deadline)

    def inspect_service(self, name_or_id: str, deadline: Deadline) -> Json | None:
        """A service by its id or its whole name; ``None``: there is none."""
        document = self._find("inspect_service", lambda api: api.get_json(f"/services/{quote(name_or_id)}"), deadline)
        # The engine also takes the start of an id.
        if document is None or name_or_id in (document["ID"], document["Spec"]["Name"]):
            return document
        return None

    def create_service(self, body: Mapping[str, Any], registry_auth: str | None = None) -> str:
        """Create a service; its id. ``registry_auth``: credentials with which nodes pull its image."""

        def create(api: SdkClient) -> str:
            return str(json.loads(api.exchange("POST", "/services/create", body, _auth(registry_auth)))["ID"])

        return self._call("create_service", create, None)

    def update_service(self, document: Json, spec: Mapping[str, Any], registry_auth: str | None = None) -> bool:
        """Give a service a new specification; False: it has changed since ``document`` was read.

        ``registry_auth``: credentials with which nodes pull its image from now on; ``None``: as before.
        """
        path = f"/services/{document['ID']}/update?version={document['Version']['Index']}"
        # Without credentials of its own, the update keeps those of the service.
        path += "" if registry_auth else "&registryAuthFrom=spec"
        return self._updated("update_service", path, spec, registry_auth)

    def remove_service(self, service_id: str) -> bool:
        """Remove a service; its tasks end afterwards. False: there is none."""
        return self._removed("remove_service", f"/services/{service_id}")

    def list_tasks(self, deadline: Deadline, **filters: Collection[str]) -> list[Json]:
        """The tasks that match all filters. ``name`` takes names of services, also of some that are gone."""
        return self._list("list_tasks", "/tasks", filters, deadline)

    def task_log(self, task_id: str, tail: int, deadline: Deadline) -> bytes:
        """The last lines of what a task has written, in the engine's frames."""
        path = f"/tasks/{task_id}/logs?stdout=1&stderr=1&tail={tail}"
        return self._read("task_log", lambda api: api.exchange("GET", path), deadline)

    def list_nodes(self, deadline: Deadline) -> list[Json]:
        """All nodes of the swarm."""
        return self._list("list_nodes", "/nodes", {}, deadline)

    def update_node(self, document: Json, spec: Mapping[str, Any]) -> bool:
        """Give a node a new specification; False: it has changed since ``document`` was read."""
        path = f"/nodes/{document['ID']}/update?version={document['Version']['Index']}"
        return self._updated("update_node", path, spec)

    def list_secrets(self, deadline: Deadline, **filters: Collection[str]) -> list[Json]:
        """The swarm secrets that match all filters, without their data."""
        return self._list("list_secrets", "/secrets", filters, deadline)

    def create_secret(self, body: Mapping[str, Any]) -> str:
        """Create a secret; its id."""
        return self._call(
            "create_secret", lambda api: str(json.loads(api.exchange("POST", "/secrets/create", body))["ID"]), None
        )

    def update_secret(self, document: Json, labels: Mapping[str, str]) -> bool:
        """Give a secret new labels, which alone can change; False: it has changed since ``document`` was read."""
        path = f"/secrets/{document['ID']}/update?version={document['Version']['Index']}"
        body = {"Name": document["Spec"]["Name"], "Labels": labels}
        return self._updated("update_secret", path, body)

    def remove_secret(self, secret_id: str) -> bool:
        """Remove a secret that no service uses; False: there is none."""
        return self._removed("remove_secret", f"/secrets/{secret_id}")

    def distribution(self, image: str, registry_auth: str | None, deadline: Deadline) -> Json:
        """What the image's registry says of it, such as its digest."""
        path = f"/distribution/{quote(image)}/json"

        def ask(api: SdkClient) -> Json:
            document: Json = json.loads(api.exchange("GET", path, headers=_auth(registry_auth)))
            return document

        return self._read("distribution", ask, deadline)

    def _list(
        self, operation: str, path: str, filters: Mapping[str, Collection[str]], deadline: Deadline
    ) -> list[Json]:
        query = f"?{urlencode({'filters': json.dumps({key: list(value) for key, value in filters.items()})})}"
        rows: list[Json] = self._read(
            operation, lambda api: json.loads(api.exchange("GET", path + (query if filters else ""))), deadline
        )
        return rows or []

    def _updated(self, operation: str, path: str, body: Mapping[str, Any], registry_auth: str | None = None) -> bool:
        try:
            self._call(operation, lambda api: api.exchange("POST", path, body, _auth(registry_auth)), None)
        except EngineRejectedError as exc:
            if _OUT_OF_SEQUENCE in exc.text:
                return False
            raise
        return True

    def _removed(self, operation: str, path: str) -> bool:
        try:
            self._call(operation, lambda api: api.exchange("DELETE", path), None)
        except EngineRejectedError as exc:
            if exc.status == HTTPStatus.NOT_FOUND:
                return False
            raise
        return True


def _auth(registry_auth: str | None) -> Mapping[str, str]:
    return {"X-Registry-Auth": registry_auth} if registry_auth else {}
