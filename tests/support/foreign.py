"""Foreign containers that the service must never touch, and the check that it has not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import docker
import grpc

from botmaker.container.v1 import container_observer_pb2 as observer_pb
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager_client import error_info
from tests.support.calls import FOREVER, Calls

_KEPT = ("Id", "Name", "Created", "Path", "Args", "Image", "Config", "HostConfig", "Mounts")


def every_outcome(calls: Calls, observer: ContainerObserverStub, bot_id: str, *, logs: bool = True) -> dict[str, str]:
    """The outcome of each verb; for a refusal, its reason. ``logs``: whether to wait for an entry of the log."""
    follow = observer_pb.StreamLogsRequest(bot_id=bot_id, follow=True)
    verbs: dict[str, Callable[[], object]] = {
        "create": lambda: calls.create(bot_id, *FOREVER),
        "create with a request id": lambda: calls.create(bot_id, *FOREVER, request_id="wish"),
        "start": lambda: calls.start(bot_id),
        "stop": lambda: calls.stop(bot_id, grace=0),
        "restart": lambda: calls.restart(bot_id, grace=0),
        "remove": lambda: calls.remove(bot_id, grace=0),
        **({"logs": lambda: next(observer.StreamLogs(follow, timeout=60))} if logs else {}),
        "status": lambda: calls.status(bot_id),
    }
    return {verb: _outcome(call) for verb, call in verbs.items()}


def _outcome(call: Callable[[], object]) -> str:
    try:
        return str(call())
    except grpc.RpcError as exc:
        return error_info(exc).reason


class ForeignContainers:
    """Without labels, running and never started; with forged labels under another name; and under a bot's own name."""

    def __init__(self, engine: docker.DockerClient, image: str, bot_id: str, named_bot_id: str) -> None:
        """``bot_id``: the bot of the forged labels; ``named_bot_id``: the bot whose container name is occupied."""
        self._engine = engine
        forged = {"botmaker.managed": "true", "botmaker.bot-id": bot_id}
        self._ids = [
            self._make("nobodys", image, {}, start=True),
            self._make("nobodys-unstarted", image, {}, start=False),
            self._make("forged", image, forged, start=True),
            self._make("forged-unstarted", image, forged, start=False),
            self._make(f"botmaker-{named_bot_id}", image, {}, start=False),
        ]
        self.forged_ids = set(self._ids[2:4])
        self._before = {id_: self._inspect(id_) for id_ in self._ids}

    def touched(self, *, engine_was_down: bool) -> list[str]:
        """The differences since the start. An engine that was down has itself changed the containers that ran."""
        told = []
        for id_, before in self._before.items():
            now = self._inspect(id_)
            keys = _KEPT if engine_was_down and before["State"]["Running"] else before
            told += [
                f"{before['Name']}: {key} {before[key]} is {now.get(key)}"
                for key in keys
                if before[key] != now.get(key)
            ]
        return told

    def remove(self) -> None:
        """Remove them."""
        for id_ in self._ids:
            self._engine.api.remove_container(id_, force=True)

    def _make(self, name: str, image: str, labels: dict[str, str], *, start: bool) -> str:
        # The init process makes SIGTERM end the container: an engine waits for that after a crash.
        # After a restart the engine shows empty lists for options that were not set.
        host_config = {"NetworkMode": "none", "Init": True, "Dns": [], "DnsOptions": [], "DnsSearch": []}
        body = {"Image": image, "Cmd": list(FOREVER), "Labels": labels, "HostConfig": host_config}
        created = self._engine.api.create_container_from_config(body, name)
        if start:
            self._engine.api.start(created["Id"])
        return created["Id"]

    def _inspect(self, id_: str) -> dict[str, Any]:
        try:
            return self._engine.api.inspect_container(id_)
        except docker.errors.NotFound:
            return {}
