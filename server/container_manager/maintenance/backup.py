"""Creates a backup of a bot.

A running bot is frozen, or stopped, only while its state is copied; the archive is made from the copy. A backup waits
for others' archives before that. What is frozen or stopped is on the disk before, so that a service that was killed
lets the bot go on at its next start, and begins anew: once, since it may be the backup that ends the service. Within
one process it is not begun again: what lets the bot go on is repeated until it succeeds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from container_manager.backend_maintenance import REMAKEABLE, States
from container_manager.errors import (
    ConfigNotReproducibleError,
    ContainerManagerError,
    ContainerNotFoundError,
    InternalError,
    InvalidStateError,
)
from container_manager.maintenance.archive import DERIVED_PATHS
from container_manager.maintenance.backup_store import Backup, new_backup_id
from container_manager.maintenance.former_state import discard_quietly
from container_manager.maintenance.manifest import Manifest
from container_manager.maintenance.steps import (
    Means,
    both_held,
    check_not_paused,
    container_of,
    disk_held,
    insist_on,
    is_running,
    require_states,
    require_store,
    sealed_secrets,
    start,
    stop,
)
from container_manager.maintenance.task import Report, Task, patiently
from container_manager.model import ContainerState, ContainerStatus
from container_manager.operation import Operation, at_once

COPYING, ARCHIVING = "copying", "archiving"
# The fact that an archive is complete: its document.
_MADE = "made"


def create_backup(means: Means, task: Task) -> Operation[dict[str, Any]]:
    """The operation ``backup``, with the argument ``stop_and_restart``. Its result is :func:`backup_document`."""
    bot_id = task.bot_id
    if _MADE in task.facts:
        return _finished(means, task)
    begins_anew, has_begun_anew = bool(task.phase), task.facts.get("begins_anew", False)
    if begins_anew:
        yield from _let_go_on(means, task)
    if has_begun_anew:
        raise InternalError(
            "the service has ended twice in the middle of this backup, and does not begin it again; the bot goes on",
            bot_id=bot_id,
        )
    store, states = require_store(means), require_states(means)
    stops = bool(task.record.arguments.get("stop_and_restart"))
    status, _ = _checked(means, states, bot_id, stops=stops)
    yield from (both_held if stops and is_running(status) else disk_held)(means, task)
    # The waits may have been long: the bot may have ended meanwhile.
    status, has_state = _checked(means, states, bot_id, stops=stops)
    manifest, derived_paths = _described(means, bot_id, status)
    task.enter(COPYING, "copying the state", begins_anew=begins_anew)
    try:
        if has_state:
            left_out = yield from _copied(means, task, status, (*DERIVED_PATHS, *derived_paths))
            task.report(Report(ARCHIVING, "writing the archive"))
            on_progress = task.progress(ARCHIVING, "writing the archive", task.facts.get("size_bytes", 0))
            manifest = replace(manifest, left_out=left_out)
            with states.opened_aside(bot_id, _copy_name(task)) as copy:
                backup = store.write(
                    new_backup_id(bot_id), copy, manifest, on_progress, secrets=sealed_secrets(means, bot_id)
                )
        else:
            backup = store.write(new_backup_id(bot_id), None, manifest, secrets=sealed_secrets(means, bot_id))
    except Exception:
        yield from _let_go_on(means, task)
        raise
    # Before anything else may fail: it is not made once more.
    yield from patiently(task, lambda: at_once(lambda: _record_made(task, backup)))
    return _finished(means, task)


def _finished(means: Means, task: Task) -> dict[str, Any]:
    """The bot goes on since its state was copied."""
    discard_quietly(means, task, _copy_name(task))
    return dict(task.facts[_MADE])


def _checked(means: Means, states: States, bot_id: str, *, stops: bool) -> tuple[ContainerStatus | None, bool]:
    """The bot's container, and whether it has a state. Raises what refuses the backup."""
    status, has_state = container_of(means, bot_id), states.has_state(bot_id)
    if stops:
        check_not_paused(status)
    if status is None and not has_state:
        raise ContainerNotFoundError("the bot has neither a container nor a state", bot_id=bot_id)
    return status, has_state


def backup_document(backup: Backup) -> dict[str, Any]:
    """A backup as JSON values."""
    manifest = backup.manifest
    return {
        "backup_id": backup.backup_id,
        "bot_id": manifest.bot_id,
        "create_time_ns": manifest.create_time_ns,
        "size_bytes": backup.size_bytes,
        "sha256": backup.sha256,
        "image": "" if manifest.config is None else manifest.config.image,
        "image_id": manifest.image_id,
        "has_secrets": bool(manifest.secrets_sha256),
    }


def _described(means: Means, bot_id: str, status: ContainerStatus | None) -> tuple[Manifest, tuple[str, ...]]:
    """The manifest without files, and what the image declares as derived."""
    versions = {"container-manager": means.version}
    manifest = partial(Manifest, bot_id, time.time_ns(), versions, was_running=is_running(status))
    if status is None:
        return manifest(), ()
    image = means.maintenance.image_facts(status.image_id)
    try:
        config = means.lifecycle.get_container_config(bot_id).config
    except ConfigNotReproducibleError:
        # Its state can be restored to a container, but no container can be made from its description.
        config = None
    described = manifest(config=config, image_id=status.image_id, image_digests=image.digests)
    return described, image.derived_paths


def _copied(means: Means, task: Task, status: ContainerStatus | None, without: tuple[str, ...]) -> Operation[list[str]]:
    """Copy the state aside while nothing changes it. Returns what cannot be copied."""
    stops = bool(task.record.arguments.get("stop_and_restart"))
    if status is not None and is_running(status) and stops:
        task.enter(COPYING, "stopping the bot", stopped=True, container_id=status.container_id)
        yield from stop(means, task)
    elif status is not None and status.state in (ContainerState.RUNNING, ContainerState.RESTARTING):
        # Before the pause: it must not be forgotten.
        task.enter(COPYING, "copying the state", paused=status.container_id)
        if not means.maintenance.pause(status.container_id):
            task.enter(COPYING, "copying the state", paused="")
            yield from _stopped_if_up(means, task)
    on_progress: Callable[[int], None] = task.progress(COPYING, "copying the state")
    copied = require_states(means).copy_aside(task.bot_id, _copy_name(task), without=without, on_progress=on_progress)
    yield from patiently(task, lambda: _resume(means, task))
    # The wait may have given it up.
    yield from disk_held(means, task)
    task.enter(ARCHIVING, "writing the archive", size_bytes=copied.size_bytes, paused="", stopped=False)
    return copied.left_out


def _stopped_if_up(means: Means, task: Task) -> Operation[None]:
    """Stop a bot that crashes again and again: between two runs it cannot be paused, and would start amid the copy."""
    status = container_of(means, task.bot_id)
    if status is not None and status.state in (ContainerState.RUNNING, ContainerState.RESTARTING):
        task.enter(COPYING, "stopping the bot", stopped=True, container_id=status.container_id)
        yield from stop(means, task)


def _copy_name(task: Task) -> str:
    return task.copy_name(f"{REMAKEABLE}backup")


def _let_go_on(means: Means, task: Task) -> Operation[None]:
    """Undo all that the backup has done to the bot. Nothing of it is on the disk then."""
    failure: ContainerManagerError | None = None
    try:
        yield from patiently(task, lambda: _resume(means, task))
    except ContainerManagerError as exc:
        # The bot cannot be started again, whoever tries.
        failure = exc
    yield from patiently(task, lambda: at_once(lambda: _leave(means, task)))
    if failure is not None:
        raise failure


def _leave(means: Means, task: Task) -> None:
    if means.states is not None:
        means.states.discard(task.bot_id, _copy_name(task))
    task.leave()


def _record_made(task: Task, backup: Backup) -> None:
    task.enter(ARCHIVING, "the archive is complete", **{_MADE: backup_document(backup)})


def _resume(means: Means, task: Task) -> Operation[None]:
    paused = task.facts.get("paused")
    if paused:
        yield from insist_on(lambda: means.maintenance.unpause(paused))
    if task.facts.get("stopped"):
        # Somebody may have removed it meanwhile, or be about to: another service, or the engine's own means.
        with suppress(ContainerNotFoundError, InvalidStateError):
            yield from start(means, task)
