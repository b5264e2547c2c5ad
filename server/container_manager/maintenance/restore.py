"""Restores a backup to a bot.

The archive is verified and unpacked beside the bot's state. Only then is the bot stopped, and the states change
places. The former state stays until the bot is ready; if it does not become ready, they change back. The facts of each
phase are on the disk before it begins, and each of its steps may be repeated, so a service that was killed continues.
What the bot has made of the restored state until then is kept as ``failed``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from container_manager.backend_maintenance import REMAKEABLE
from container_manager.errors import (
    BackupCorruptError,
    ContainerManagerError,
    ContainerNotFoundError,
    RollbackFailedError,
    StateUnavailableError,
)
from container_manager.maintenance.config_document import config_from_document, config_to_document
from container_manager.maintenance.former_state import discard_quietly, former_state, is_lost, put_former_back
from container_manager.maintenance.manifest import Manifest
from container_manager.maintenance.removal import remove_own
from container_manager.maintenance.steps import (
    COMMITTED,
    READY_SECONDS,
    REPLACING,
    ROLLBACK_FAILED,
    ROLLED_BACK,
    ROLLING_BACK,
    STOPPING,
    WAITING_READY,
    Means,
    OtherContainerError,
    admitted,
    check_not_paused,
    check_own_now,
    container_of,
    disk_held,
    failure_of,
    insist_on,
    is_running,
    require_states,
    require_store,
    rolled_back,
    start,
    started,
    stop,
)
from container_manager.maintenance.task import TEMPORARY, Report, Task
from container_manager.model import ContainerStatus, container_name
from container_manager.operation import Operation
from container_manager.validation import check_create

VERIFYING = "verifying"


def restore_backup(means: Means, task: Task) -> Operation[dict[str, Any]]:
    """The operation ``restore``, with the argument ``backup_id``. Its result is empty."""
    if not task.phase:
        yield from _verify(means, task)
    try:
        yield from _replace(means, task)
    except Exception as exc:
        if task.phase == STOPPING and isinstance(exc, OtherContainerError):
            # Nothing of what is there now was changed.
            discard_quietly(means, task, *_names(task))
            task.leave()
            raise
        # Whatever it is, the bot gets its former state back.
        why = failure_of(task, exc)
        words = f"putting back the former state: {why['reason']}"
        task.enter(ROLLING_BACK, words, former_lost=is_lost(means, task), **why)
    if task.phase == ROLLING_BACK:
        yield from _roll_back(means, task)
    # Before anything of the former state is removed: it is not put back any more.
    task.enter(COMMITTED, "the bot has the restored state")
    discard_quietly(means, task, *_names(task))
    return {}


def _verify(means: Means, task: Task) -> Operation[None]:
    """Unpack the archive, and enter the first phase that changes something."""
    store, states = require_store(means), require_states(means)
    bot_id, backup_id = task.bot_id, str(task.record.arguments["backup_id"])
    restored, _ = _names(task)
    manifest = store.manifest(backup_id)
    status = _checked(means, bot_id, manifest)
    if status is None and manifest.config is not None:
        try:
            check_create(task.record.request_id, manifest.config)
        except (TypeError, AttributeError) as exc:
            raise BackupCorruptError(
                "the archive's description of the container cannot be read", backup_id=backup_id
            ) from exc
        image = manifest.config.image
        yield from means.maintenance.prepare_image(image, task.pulls(VERIFYING, f"getting the image {image}"))
    yield from disk_held(means, task)
    states.discard(bot_id, restored)
    words = "verifying and unpacking the archive"
    with states.new_aside(bot_id, restored) as directory:
        on_progress = task.progress(VERIFYING, words, manifest.size_bytes)
        store.unpack(backup_id, directory, states.owner(), on_progress)
    task.leave_disk()
    try:
        if is_running(status) if status is not None else manifest.was_running:
            yield from admitted(means, task)
        # The waits may have been long: the bot may have ended meanwhile.
        status = _checked(means, bot_id, manifest)
        config = _config_for(bot_id, manifest) if status is None else None
        was_running = is_running(status) if status is not None else manifest.was_running
        container_id = "" if status is None else status.container_id
        task.enter(STOPPING, "stopping the bot", container_id=container_id, was_running=was_running, create=config)
        if config is not None:
            # The commonest fault, such as an image that cannot be had, shows before anything is changed.
            yield from _create(means, task)
    except Exception:
        states.discard(bot_id, restored)
        task.leave()
        raise


def _checked(means: Means, bot_id: str, manifest: Manifest) -> ContainerStatus | None:
    """The bot's container; ``None``: one is made as the manifest describes. Raises what refuses the restore."""
    status = container_of(means, bot_id)
    check_not_paused(status)
    if status is None and manifest.config is None:
        raise ContainerNotFoundError(
            "the bot has no container, and the backup has no description of one; create it first", bot_id=bot_id
        )
    return status


def _config_for(bot_id: str, manifest: Manifest) -> dict[str, Any] | None:
    """The manifest's configuration for a bot; a network of the former bot's own becomes one of this bot's."""
    if (config := manifest.config) is not None and config.network == container_name(manifest.bot_id):
        config = replace(config, network=container_name(bot_id))
    return None if config is None else config_to_document(config)


def _replace(means: Means, task: Task) -> Operation[None]:
    states, (restored, former) = require_states(means), _names(task)
    bot_id = task.bot_id
    if task.phase == STOPPING:
        yield from stop(means, task)
        task.enter(REPLACING, "putting the restored state in place")
    if task.phase == REPLACING:
        if task.facts["create"] is not None:
            yield from _create(means, task)
        yield from insist_on(lambda: check_own_now(means, task))
        if not states.has_state(bot_id) and not states.has_aside(bot_id, former):
            with states.new_aside(bot_id, former):
                pass
        states.exchange(bot_id, put=restored, keep=former)
        if not (states.has_state(bot_id) and states.has_aside(bot_id, former)):
            raise StateUnavailableError("the restored state is not there any more", bot_id=bot_id)
        task.enter(WAITING_READY, "starting the bot")
    if task.phase == WAITING_READY and task.facts["was_running"]:
        yield from started(means, task, READY_SECONDS)


def _roll_back(means: Means, task: Task) -> Operation[None]:
    """Put everything back. Always raises."""
    reason, bot_id = task.facts["reason"], task.bot_id
    states, (restored, former) = require_states(means), _names(task)
    try:
        if task.facts["create"] is not None:
            yield from remove_own(means, task)
        else:
            yield from stop(means, task)
            yield from insist_on(lambda: check_own_now(means, task))
        if states.has_aside(bot_id, restored):
            # It was not put in place, or not completely: no bot has written to it, and the archive still has it.
            states.exchange(bot_id, put=former, keep=restored)
            states.discard(bot_id, restored)
        put_former_back(means, task)
        if task.facts["was_running"] and task.facts["create"] is None:
            yield from start(means, task)
    except TEMPORARY:
        # It goes on when that has ended.
        raise
    except ContainerManagerError as exc:
        task.report(Report(ROLLBACK_FAILED, str(exc)))
        raise RollbackFailedError(
            f"{reason}; the former state could not be put back: {exc}. It was put aside as {former} beside the bot's "
            "state, if it is not that state itself",
            bot_id=bot_id,
        ) from exc
    task.report(Report(ROLLED_BACK, "the bot has its former state"))
    raise rolled_back(task, f"the bot has its former state again: {reason}")


def _create(means: Means, task: Task) -> Operation[None]:
    """Make the bot's container, unless an earlier attempt has made it."""
    config = config_from_document(task.facts["create"])
    yield from means.lifecycle.create_container(task.bot_id, config, request_id=task.record.request_id)


def _names(task: Task) -> tuple[str, str]:
    """What this restore's copies beside the state are called: the restored one, and the former one."""
    return task.copy_name(f"{REMAKEABLE}restored"), former_state(task)
