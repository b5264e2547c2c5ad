"""What a swarm has of a bot's secrets, read from its documents: the set, and the contents that it names.

:mod:`container_manager.backends.swarm.secrets` explains both.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from container_manager.backends.bot_container import LABEL_BOT_ID, LABEL_MANAGED, bot_id_of
from container_manager.bot_directories import BotUser
from container_manager.engine.timestamps import time_ns
from container_manager.errors import SecretsUnavailableError
from container_manager.model import SecretInfo, container_name

Json = dict[str, Any]
Names = Mapping[str, str]
"""The ids of contents by the names of secrets."""

LABEL_SECRETS = "botmaker.swarm.secrets"
"""Of a set: :data:`Names` as JSON. Without it, the set is being made; empty, it is being removed for good."""
LABEL_NAME = "botmaker.swarm.secret-name"
LABEL_SIZE = "botmaker.swarm.secret-size"
"""Of a content. Its name and size in bytes."""

ENDS = ""
_FILE_MODE = 0o400


@dataclass(frozen=True)
class SecretSet:
    """Of one bot, at one moment."""

    bot_id: str
    set: Json | None
    contents: Mapping[str, Json]
    """By id."""

    @property
    def names(self) -> Names | None:
        """``None``: the bot has no set, or none that has been made. Raises :class:`SecretsUnavailableError`."""
        if self.set is None or not (value := self.set["Spec"]["Labels"].get(LABEL_SECRETS)):
            return None
        try:
            return dict(json.loads(value))
        except (TypeError, ValueError) as exc:
            raise SecretsUnavailableError(
                f"the label {LABEL_SECRETS} of the swarm secret {container_name(self.bot_id)} cannot be read",
                bot_id=self.bot_id,
            ) from exc

    @property
    def ends(self) -> bool:
        """Whether the set is being removed."""
        return self.set is not None and self.set["Spec"]["Labels"].get(LABEL_SECRETS) == ENDS

    def unused(self, names: Names | None) -> list[str]:
        """The contents that no name has."""
        return sorted(set(self.contents) - set((names or {}).values()))


def by_bot(rows: Iterable[Json]) -> Iterator[SecretSet]:
    """These swarm secrets by their bots; without those that only have a bot's label."""
    sets: dict[str, Json] = {}
    contents: dict[str, dict[str, Json]] = {}
    for row in rows:
        bot_id, name = bot_id_of(row["Spec"].get("Labels")), row["Spec"]["Name"]
        if bot_id and name == container_name(bot_id):
            sets[bot_id] = row
        elif bot_id and name.startswith(f"{container_name(bot_id)}-"):
            contents.setdefault(bot_id, {})[row["ID"]] = row
    return (SecretSet(bot_id, sets.get(bot_id), contents.get(bot_id, {})) for bot_id in sorted({*sets, *contents}))


def labels(bot_id: str) -> dict[str, str]:
    """Those of everything that the service makes for the bot."""
    return {LABEL_MANAGED: "true", LABEL_BOT_ID: bot_id}


def secret_info(name: str, content: Json) -> SecretInfo:
    """What a caller may know of a secret."""
    size = content["Spec"]["Labels"].get(LABEL_SIZE, "")
    return SecretInfo(name, int(size) if size.isdigit() else 0, time_ns(content["CreatedAt"]) or 0)


def reference(name: str, content: Json, user: BotUser) -> Json:
    """The secret as a service refers to it: a file of this user below ``/run/secrets`` (``ContainerSpec.Secrets``)."""
    file = {"Name": name, "UID": str(user.uid), "GID": str(user.gid), "Mode": _FILE_MODE}
    return {"File": file, "SecretID": content["ID"], "SecretName": content["Spec"]["Name"]}
