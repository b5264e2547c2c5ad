"""Proof that the candidates make the same container, before anything is measured with them."""

from __future__ import annotations

from typing import Any

from bench.belongings import Belongings
from bench.candidates import RAW
from bench.engine_http import RawEngine
from bench.worker import Worker
from container_manager.model import container_name

# What differs by the container's own identity, or by who would attach to it at create.
_OWN = ("Hostname", "AttachStdin", "AttachStdout", "AttachStderr")


class DifferentContainersError(Exception):
    """Candidates would be compared that do not do the same."""


def check(workers: list[Worker], belongings: Belongings, docker_host: str) -> None:
    """Create one container through each worker and compare what the engine shows of them.

    Raises :class:`DifferentContainersError`. The containers are left for the run's end.
    """
    shown: dict[str, dict[str, Any]] = {}
    engine = RawEngine(docker_host)
    try:
        for worker in workers:
            (bot_id,) = belongings.new_bot_ids(1)
            worker.create(bot_id)
            shown[worker.name] = _comparable(engine.inspect(container_name(bot_id)), bot_id)
    finally:
        engine.close()
    for name, document in shown.items():
        for part, values in document.items():
            expected = shown[RAW][part]
            different = {key for key in values.keys() | expected.keys() if values.get(key) != expected.get(key)}
            if different:
                detail = "; ".join(
                    f"{key}: {values.get(key)!r}, not {expected.get(key)!r}" for key in sorted(different)
                )
                raise DifferentContainersError(f"{name} makes another container than {RAW}: {part}: {detail}")


def _comparable(document: dict[str, Any], bot_id: str) -> dict[str, Any]:
    """Its config, without what is its own; empty values of any kind are the same as none."""
    parts = {"Config": document["Config"], "HostConfig": document["HostConfig"]}
    return {
        part: {key: _anonymous(value, bot_id) for key, value in values.items() if value and key not in _OWN}
        for part, values in parts.items()
    }


def _anonymous(value: Any, bot_id: str) -> Any:
    if isinstance(value, str):
        return value.replace(bot_id, "BOT")
    if isinstance(value, list):
        items = [_anonymous(item, bot_id) for item in value]
        return sorted(items) if all(isinstance(item, str) for item in items) else items
    if isinstance(value, dict):
        return {key: _anonymous(item, bot_id) for key, item in value.items() if item}
    return value
