"""The secrets of a swarm in memory, in place of a :class:`container_manager.engine.swarm.SwarmClient`."""

from __future__ import annotations

import base64
import functools
import itertools
import json
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

from container_manager.backends.swarm.secrets import SwarmSecrets
from container_manager.bot_directories import BotUser
from container_manager.deadline import Deadline
from container_manager.engine.swarm import SwarmClient
from container_manager.engine.transport_errors import EngineRejectedError
from tests.unit.swarm_documents import BOT

Json = dict[str, Any]
SET = f"botmaker-{BOT}"


def _locked(method: Any) -> Any:
    """Without another thread: what could not be removed is removed in one."""

    @functools.wraps(method)
    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        with self._lock:
            return method(self, *arguments, **named)

    return call


class Store:
    """The secrets of a swarm, with the rules of its manager (swarmkit ``manager/controlapi/secret.go``)."""

    def __init__(self) -> None:
        self.rows: dict[str, Json] = {}
        self.data: dict[str, bytes] = {}
        self.used: set[str] = set()
        """Secrets that a service refers to."""
        self.calls = 0
        self.at: Callable[[int], None] = lambda _: None
        """Called before each call with its number, and after each change with the number and a half."""
        self._index = itertools.count(10)
        self._lock = threading.RLock()

    @_locked
    def list_secrets(self, _deadline: Deadline, *, label: Collection[str]) -> list[Json]:
        self._step()
        (wanted,) = (each.partition("=") for each in label)
        return [json.loads(json.dumps(row)) for row in self.rows.values() if self._has(row, wanted)]

    @_locked
    def create_secret(self, body: Mapping[str, Any]) -> str:
        number = self._step()
        if any(row["Spec"]["Name"] == body["Name"] for row in self.rows.values()):
            raise EngineRejectedError(409, f"secret {body['Name']} already exists")
        data = base64.b64decode(body["Data"])
        if not data or len(body["Name"]) > 64:
            raise EngineRejectedError(400, "secret data must be larger than 0 and less than 512000 bytes")
        index = next(self._index)
        spec = {"Name": body["Name"], "Labels": dict(body["Labels"])}
        self.rows[f"id{index}"] = {
            "ID": f"id{index}",
            "Version": {"Index": index},
            "CreatedAt": "2026-01-01T00:00:01Z",
            "Spec": spec,
        }
        template = body.get("Templating") == {"Name": "golang"}
        self.data[f"id{index}"] = data.replace(b'{{""}}', b"") if template else data
        self.at(number + 0.5)
        return f"id{index}"

    @_locked
    def update_secret(self, document: Json, labels: Mapping[str, str]) -> bool:
        number = self._step()
        row = self.rows.get(document["ID"])
        if row is None:
            raise EngineRejectedError(404, f"secret {document['ID']} not found")
        if row["Version"] != document["Version"]:
            return False
        row["Version"] = {"Index": next(self._index)}
        row["Spec"]["Labels"] = dict(labels)
        self.at(number + 0.5)
        return True

    @_locked
    def remove_secret(self, secret_id: str) -> bool:
        number = self._step()
        if secret_id in self.used:
            raise EngineRejectedError(400, f"secret '{secret_id}' is in use by the following service: bot")
        found = self.rows.pop(secret_id, None) is not None
        self.at(number + 0.5)
        return found

    def contents(self, bot_id: str = BOT) -> dict[str, bytes]:
        """What the bot would find below /run/secrets."""
        return {each["File"]["Name"]: self.data[each["SecretID"]] for each in service(self).references(bot_id)}

    @_locked
    def unnamed(self) -> set[str]:
        """What no set has, and is no set that has been made."""
        sets = [row for row in self.rows.values() if row["Spec"]["Labels"].get("botmaker.swarm.secrets")]
        named = {
            content for row in sets for content in json.loads(row["Spec"]["Labels"]["botmaker.swarm.secrets"]).values()
        }
        return set(self.rows) - named - {row["ID"] for row in sets}

    @staticmethod
    def _has(row: Json, wanted: tuple[str, str, str]) -> bool:
        return bool(row["Spec"]["Labels"].get(wanted[0]) == wanted[2])

    def _step(self) -> float:
        self.calls += 1
        number = self.calls
        self.at(number)
        return number


def service(store: Store) -> SwarmSecrets:
    """A service on this swarm."""
    return SwarmSecrets(cast("SwarmClient", store), BotUser(1000, 1001))
