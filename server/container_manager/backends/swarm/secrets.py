"""Bots' secrets as secrets of a swarm: a :class:`~container_manager.backend_provisioning.Secrets`.

    botmaker-{bot_id}            the bot's set: its label names the content of each of the bot's secrets
    botmaker-{bot_id}-{random}   one content

A swarm keeps the data of its secrets unchanged and never returns it. So a secret that is put is a new content, and the
bot's service refers to it from its next start on.

Labels do change, all at once, and only from the version that was read. So one update of its set changes all secrets of
a bot. Contents are made before it, and those that are replaced are removed after it.

A content that the set does not name is removed once the set has changed, or has been written unchanged, since the
content was found. A writer elsewhere that has made it, and not yet named it, then gets a version conflict and starts
over. The swarm itself refuses to remove one that a service refers to. So nothing that is needed is removed, by any
number of services, and what a killed one has left is.
"""

from __future__ import annotations

import base64
import json
import logging
import secrets as random
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from container_manager.backends.bot_container import LABEL_BOT_ID, LABEL_MANAGED
from container_manager.backends.swarm.secret_set import (
    ENDS,
    LABEL_NAME,
    LABEL_SECRETS,
    LABEL_SIZE,
    Names,
    SecretSet,
    by_bot,
    labels,
    reference,
    secret_info,
)
from container_manager.bot_directories import BotUser
from container_manager.deadline import Deadline
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.swarm import SwarmClient
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import (
    CapacityExceededError,
    ContainerManagerError,
    NotSupportedByBackendError,
    OperationInProgressError,
    SecretsUnavailableError,
    reason_of,
)
from container_manager.model import SecretInfo, container_name

Json = dict[str, Any]
MAX_SECRETS = 500
NO_READING = "a swarm gives no secret back, so no backup can have any"
# The data of a set, which nobody reads. It cannot be empty.
_NO_DATA = b"-"
# A swarm takes no empty secret. This is a template, and the node writes what it expands to.
_EMPTY: Json = {"Data": base64.b64encode(b'{{""}}').decode(), "Templating": {"Name": "golang"}}
_ATTEMPTS = 30
# Each waits for another part of it, so that of several at once each gets its turn.
_PAUSE_MILLISECONDS = 50
_AGAIN_SECONDS = 5.0

_log = logging.getLogger(__name__)


class SwarmSecrets:
    """Of the bots of one swarm, for any number of threads and services."""

    def __init__(self, engine: SwarmClient, user: BotUser) -> None:
        """``user``: the owner of the files, as a container sees it."""
        self._engine = engine
        self._user = user
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._later: threading.Thread | None = None

    def close(self) -> None:
        """End what :meth:`remove_leftovers` waits for."""
        self._closed.set()

    def put_secrets(
        self,
        bot_id: str,
        secrets: Mapping[str, bytes],
        *,
        replace_all: bool = False,
        run: int | None = None,  # noqa: ARG002 - its secrets stay as they are
    ) -> None:
        self._change(bot_id, secrets, lambda names: {} if replace_all else names)

    def token_of_run(self, bot_id: str, run: int) -> bytes:  # noqa: ARG002
        """None: no process can be made to load another token than the one that it has."""
        return b""

    def forget_token(self, bot_id: str) -> None:
        """Nothing is kept."""

    def may_keep_token(self, bot_id: str) -> bool:  # noqa: ARG002
        return False

    def read_secrets(self, bot_id: str) -> Mapping[str, bytes]:
        """Never: a swarm gives no secret back. So the service does not start with a recipient for them in backups."""
        raise NotSupportedByBackendError(NO_READING, bot_id=bot_id)

    def list_secrets(self, bot_id: str) -> list[SecretInfo]:
        found = self._find(bot_id)
        named = [(name, found.contents.get(content)) for name, content in (found.names or {}).items()]
        return sorted(secret_info(name, content) for name, content in named if content is not None)

    def delete_secrets(
        self,
        bot_id: str,
        names: Collection[str],
        *,
        run: int | None = None,  # noqa: ARG002 - its secrets stay as they are
    ) -> None:
        def kept(present: Names) -> Names | None:
            others = {name: content for name, content in present.items() if name not in names}
            return others if len(others) < len(present) else None

        self._change(bot_id, {}, kept)

    def delete_all_secrets(self, bot_id: str) -> None:
        found = self._find(bot_id)
        # First the set: a change under way elsewhere does not find it any more.
        self._remove(bot_id, [*([found.set["ID"]] if found.set else []), *found.contents])

    def references(self, bot_id: str) -> list[Json]:
        """The bot's secrets as its service refers to them: files below ``/run/secrets`` (``ContainerSpec.Secrets``).

        Raises :class:`SecretsUnavailableError` when the bot has none, or when one was removed by other means.
        """
        found = self._find(bot_id)
        if found.names is None:
            raise SecretsUnavailableError("the bot has no secrets in the swarm; put them first", bot_id=bot_id)
        for name, content in found.names.items():
            if content not in found.contents:
                raise SecretsUnavailableError(
                    f"the bot's secret {name} is not in the swarm any more; put it again", bot_id=bot_id
                )
        return [reference(name, found.contents[content], self._user) for name, content in found.names.items()]

    def remove_unused(self, bot_id: str) -> None:
        """Remove what neither the bot's set nor a service needs; later, if that fails now."""
        try:
            self._remove_unused(self._find(bot_id))
        except ContainerManagerError as exc:
            self._remove_later(bot_id, exc)

    def remove_leftovers(self) -> None:
        while not self._closed.is_set():
            try:
                for found in self._find_all():
                    with suppress(SecretsUnavailableError):
                        self._remove_unused(found)
            except ContainerManagerError as exc:
                _log.debug("unused secrets of the swarm cannot be removed yet: %s", reason_of(exc))
                self._closed.wait(_AGAIN_SECONDS)
            else:
                return

    def _change(self, bot_id: str, contents: Mapping[str, bytes], kept: Callable[[Names], Names | None]) -> None:
        """Let the bot have these secrets beside what ``kept`` returns of its present ones; ``None``: no change."""
        for _ in range(_ATTEMPTS):
            found = self._find(bot_id)
            present = kept(found.names or {})
            if present is None:
                return
            if found.set is None:
                self._make_set(bot_id)
                continue
            if found.ends:
                self._remove(bot_id, [found.set["ID"]])
                continue
            others = {name: content for name, content in present.items() if name not in contents}
            if len(others) + len(contents) > MAX_SECRETS:
                raise CapacityExceededError(f"a bot has at most {MAX_SECRETS} secrets on a swarm", bot_id=bot_id)
            try:
                made = {name: self._make(bot_id, name, value) for name, value in contents.items()}
                changed = self._write(found, json.dumps({**others, **made}))
            except ContainerManagerError:
                self.remove_unused(bot_id)
                raise
            if changed:
                try:
                    self._remove(bot_id, found.unused(others))
                except ContainerManagerError as exc:
                    self._remove_later(bot_id, exc)
                return
            time.sleep(random.randbelow(_PAUSE_MILLISECONDS) / 1000)
        self.remove_unused(bot_id)
        raise OperationInProgressError("other changes of the bot's secrets go on; try again later", bot_id=bot_id)

    def _remove_later(self, bot_id: str, error: ContainerManagerError) -> None:
        _log.debug("secrets of bot %s that are not used any more stay for now: %s", bot_id, reason_of(error))
        with self._lock:
            if self._later is None or not self._later.is_alive():
                self._later = threading.Thread(target=self.remove_leftovers, name="unused secrets", daemon=True)
                self._later.start()

    def _remove_unused(self, found: SecretSet) -> None:
        names, unused = found.names, found.unused(found.names)
        if found.set is None:
            self._remove(found.bot_id, unused)
        elif names is None and (found.ends or self._write(found, ENDS)):
            # What a first change has left that was killed.
            self._remove(found.bot_id, [found.set["ID"], *unused])
        elif names is not None and unused and self._write(found, json.dumps(names)):
            self._remove(found.bot_id, unused)

    def _make_set(self, bot_id: str) -> None:
        body = {"Name": container_name(bot_id), "Labels": labels(bot_id), "Data": _encoded(_NO_DATA)}
        try:
            self._engine.create_secret(body)
        except EngineRejectedError as exc:
            if exc.status != HTTPStatus.CONFLICT:
                raise engine_error(exc, bot_id) from exc

    def _make(self, bot_id: str, name: str, value: bytes) -> str:
        body = {
            # The longest name that a swarm takes has 64 characters; of a bot's there are 45.
            "Name": f"{container_name(bot_id)}-{random.token_hex(8)}",
            "Labels": {**labels(bot_id), LABEL_NAME: name, LABEL_SIZE: str(len(value))},
            **({"Data": _encoded(value)} if value else _EMPTY),
        }
        try:
            return self._engine.create_secret(body)
        except EngineRejectedError as exc:
            raise engine_error(exc, bot_id) from exc

    def _write(self, found: SecretSet, value: str) -> bool:
        """Give the bot's set this label; False: it has changed, or is gone."""
        if found.set is None:
            return False
        changed = {**found.set["Spec"]["Labels"], LABEL_SECRETS: value}
        try:
            return self._engine.update_secret(found.set, changed)
        except EngineRejectedError as exc:
            if exc.status == HTTPStatus.NOT_FOUND:
                return False
            raise engine_error(exc, found.bot_id) from exc

    def _remove(self, bot_id: str, ids: Iterable[str]) -> None:
        for each in ids:
            try:
                self._engine.remove_secret(each)
            except EngineRejectedError as exc:
                # A service refers to it, such as one that is stopped.
                if exc.status != HTTPStatus.BAD_REQUEST:
                    raise engine_error(exc, bot_id) from exc

    def _find(self, bot_id: str) -> SecretSet:
        rows = self._list(f"{LABEL_BOT_ID}={bot_id}", bot_id)
        return next(by_bot(rows), SecretSet(bot_id, None, {}))

    def _find_all(self) -> list[SecretSet]:
        return list(by_bot(self._list(f"{LABEL_MANAGED}=true")))

    def _list(self, label: str, bot_id: str = "") -> list[Json]:
        try:
            return self._engine.list_secrets(Deadline(), label=[label])
        except EngineRejectedError as exc:
            raise engine_error(exc, bot_id) from exc


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
