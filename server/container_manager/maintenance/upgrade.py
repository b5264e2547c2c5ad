"""Replaces a bot's container by one of another image, and puts everything back if the bot does not become ready.

What is needed for that is on the disk before anything is changed: the configuration, and the images of both containers.
The state is copied while the bot is stopped. The copy is the former state, which goes back byte for byte; what the new
image has made of it is kept as ``failed``. A service that was killed continues from the last phase, whose steps may be
repeated.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from container_manager.errors import (
    ContainerManagerError,
    InvalidStateError,
    NotSupportedByBackendError,
    RollbackFailedError,
    StateUnavailableError,
)
from container_manager.maintenance.archive import DERIVED_PATHS
from container_manager.maintenance.backup_store import new_backup_id
from container_manager.maintenance.config_document import config_from_document, config_to_document
from container_manager.maintenance.former_state import discard_quietly, former_state, is_lost, put_former_back
from container_manager.maintenance.manifest import Manifest
from container_manager.maintenance.removal import remove_at_once, remove_own
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
    NotReadyError,
    OtherContainerError,
    admitted,
    both_held,
    check_not_paused,
    container_of,
    disk_held,
    failure_of,
    insist,
    insist_on,
    is_running,
    is_well,
    require_states,
    require_store,
    rolled_back,
    sealed_secrets,
    start,
    started,
    stop,
)
from container_manager.maintenance.task import AWAY, TEMPORARY, Report, Task
from container_manager.model import ContainerDefinition, ContainerState, ContainerStatus
from container_manager.operation import Operation

_log = logging.getLogger(__name__)

PULLING, BACKING_UP = "pulling", "backing_up"


def upgrade(means: Means, task: Task) -> Operation[dict[str, Any]]:
    """The operation ``upgrade``: arguments ``image``, ``ready_seconds``, ``grace_seconds`` and ``skip_backup``."""
    if not task.phase and not (yield from _prepare(means, task)):
        return {}
    if task.phase not in (ROLLING_BACK, COMMITTED):
        try:
            yield from _replace(means, task)
        except Exception as exc:
            if task.phase == STOPPING and isinstance(exc, NotSupportedByBackendError | OtherContainerError):
                # A grace period that the bot's node cannot give, or somebody else's container. Nothing was changed.
                task.leave()
                raise
            # Whatever it is, the bot gets its old image back.
            why = failure_of(task, exc)
            log = yield from _last_log(means, task)
            lost = task.facts["copies"] and is_lost(means, task)
            words = f"putting back the old image: {why['reason']}"
            task.enter(ROLLING_BACK, words, log=log, former_lost=lost, **why)
    if task.phase == ROLLING_BACK:
        yield from _roll_back(means, task)
    # Before the copy is removed: the former state is not put back any more.
    task.enter(COMMITTED, "the bot has the new image")
    if task.facts["copies"]:
        discard_quietly(means, task, former_state(task))
    return {}


def _prepare(means: Means, task: Task) -> Operation[bool]:
    """Check everything and get the image, and then enter the first phase. False: the bot has this image already."""
    bot_id, image = task.bot_id, str(task.record.arguments["image"])
    words = f"getting the image {image}"
    task.report(Report(PULLING, words))
    status, definition = _described(means, bot_id)
    if len(means.lifecycle.containers_of_bot(bot_id)) > 1:
        # Between two containers of its own, the bot would have another one, and no create would be accepted.
        raise InvalidStateError(
            "the bot has containers of other names beside its own; remove them first", bot_id=bot_id
        )
    # A backend may be unable to tell, and to copy, the state of this bot.
    copies = not task.record.arguments["skip_backup"] and means.states is not None and means.states.has_state(bot_id)
    if copies:
        require_store(means)
    new_image_id = yield from means.maintenance.prepare_image(image, task.pulls(PULLING, words))
    if (definition.config.image, definition.image_id) == (image, new_image_id):
        task.report(Report(COMMITTED, "the bot has this image already"))
        return False
    if is_running(status):
        yield from (both_held if copies else admitted)(means, task)
    elif copies:
        yield from disk_held(means, task)
    # The waits may have been long: the bot may have ended meanwhile.
    status, definition = _described(means, bot_id)
    task.enter(
        STOPPING,
        "stopping the bot",
        container_id=definition.container_id,
        config=config_to_document(definition.config),
        state_mount=definition.state_mount,
        old_image_id=definition.image_id,
        new_image_id=new_image_id,
        was_running=is_running(status),
        was_well=is_well(status),
        copies=copies,
    )
    return True


def _described(means: Means, bot_id: str) -> tuple[ContainerStatus | None, ContainerDefinition]:
    """The bot's container, which is not paused, and its configuration."""
    status = container_of(means, bot_id)
    check_not_paused(status)
    return status, means.lifecycle.get_container_config(bot_id)


def _replace(means: Means, task: Task) -> Operation[None]:
    facts = task.facts
    if task.phase in (STOPPING, BACKING_UP):
        try:
            yield from _stop_and_copy(means, task)
        finally:
            task.leave_disk()
    if task.phase == REPLACING:
        if facts["copies"] and not require_states(means).has_aside(task.bot_id, former_state(task)):
            raise StateUnavailableError("the copy of the state is not there any more", bot_id=task.bot_id)
        yield from _remove_old(means, task)
        yield from _create(means, task, str(task.record.arguments["image"]), facts["new_image_id"], "new")
        task.enter(WAITING_READY, "starting the bot")
    if task.phase == WAITING_READY and facts["was_running"]:
        yield from started(means, task, task.record.arguments["ready_seconds"])


def _stop_and_copy(means: Means, task: Task) -> Operation[None]:
    copies = task.facts["copies"]
    if copies:
        yield from disk_held(means, task)
    if task.phase == STOPPING:
        yield from stop(means, task, task.record.arguments["grace_seconds"])
        task.enter(BACKING_UP, "copying the state")
    task.enter(REPLACING, "replacing the container", backup_id=_copy(means, task) if copies else "")


def _copy(means: Means, task: Task) -> str:
    """Copy the whole state beside it, and all but what is derived into an archive; the archive's id."""
    states, store, former = require_states(means), require_store(means), former_state(task)
    # The bot is stopped. A copy of a killed service is made again: what it does not have is not known any more.
    states.discard(task.bot_id, former)
    copied = states.copy_aside(task.bot_id, former, on_progress=task.progress(BACKING_UP, "copying the state"))
    image_id = str(task.facts["old_image_id"])
    image = means.maintenance.image_facts(image_id)
    manifest = Manifest(
        task.bot_id,
        time.time_ns(),
        {"container-manager": means.version},
        config_from_document(task.facts["config"]),
        image_id,
        image.digests,
        was_running=task.facts["was_running"],
        left_out=copied.left_out,
    )
    on_progress = task.progress(BACKING_UP, "writing the archive")
    with states.opened_aside(task.bot_id, former) as copy:
        written = store.write(
            new_backup_id(task.bot_id),
            copy,
            manifest,
            on_progress,
            without=(*DERIVED_PATHS, *image.derived_paths),
            secrets=sealed_secrets(means, task.bot_id),
        )
    return written.backup_id


def _roll_back(means: Means, task: Task) -> Operation[None]:
    """Put everything back. Always raises."""
    bot_id, facts = task.bot_id, task.facts
    reason = "\n".join([facts["reason"], *(["Its last log lines:", *facts["log"]] if facts["log"] else [])])
    try:
        yield from _put_back(means, task)
        if facts["was_well"]:
            yield from started(means, task, max(READY_SECONDS, task.record.arguments["ready_seconds"]))
        elif facts["was_running"]:
            # It crashed again and again, or its health check failed: so it may be again.
            yield from start(means, task)
    except TEMPORARY:
        # It goes on when that has ended.
        raise
    except (NotReadyError, ContainerManagerError) as exc:
        task.report(Report(ROLLBACK_FAILED, str(exc), facts=facts))
        raise RollbackFailedError(
            f"the bot could not be put back to its old image: {exc}. {_remedy(means, task)} "
            f"Why the upgrade failed: {reason}",
            bot_id=bot_id,
        ) from exc
    task.report(Report(ROLLED_BACK, "the bot is as it was before", facts=facts))
    raise rolled_back(task, f"the bot has its old image and its former state again: {reason}")


def _remedy(means: Means, task: Task) -> str:
    """What is kept of a bot that could not be put back, and what to do with it."""
    record = f"The configuration of its container is in the facts of {means.record_path(task.record)}."
    backup_id = task.facts.get("backup_id")
    if not backup_id:
        return record
    return (
        f"The former state was put aside as {former_state(task)} beside the bot's state, if it is not that state "
        f"itself. If the bot can be started again, start it. Else remove its container, and restore the backup "
        f"{backup_id}: it makes the container and the state as they were. {record}"
    )


def _put_back(means: Means, task: Task) -> Operation[None]:
    bot_id, facts = task.bot_id, task.facts
    status = yield from insist_on(lambda: means.lifecycle.get_container_status(bot_id))
    is_old = status is not None and status.container_id == facts["container_id"]
    if is_old and status is not None and status.state is not ContainerState.REMOVING:
        # Nothing was replaced yet: the state is still the former one, and needs no copy.
        if facts["copies"]:
            discard_quietly(means, task, former_state(task))
        return
    yield from remove_own(means, task)
    if facts["copies"]:
        put_former_back(means, task)
    yield from _create(means, task, facts["config"]["image"], facts["old_image_id"], "old")


def _remove_old(means: Means, task: Task) -> Operation[None]:
    """Remove the container that is replaced, unless an earlier attempt has removed it."""
    status = yield from insist_on(lambda: means.lifecycle.get_container_status(task.bot_id))
    if status is not None and status.container_id == task.facts["container_id"]:
        yield from remove_at_once(means, task.bot_id)


def _create(means: Means, task: Task, image: str, image_id: str, which: str) -> Operation[None]:
    """Make the container of one of both images, unless an earlier attempt has made it."""
    config = config_from_document({**task.facts["config"], "image": image})
    yield from insist(
        lambda: means.lifecycle.create_container(
            task.bot_id,
            config,
            request_id=task.create_request_id(which),
            image_id=image_id,
            # Its variables may name this place.
            state_mount=task.facts.get("state_mount", ""),
        )
    )


def _last_log(means: Means, task: Task) -> Operation[list[str]]:
    """The last lines that the new container has written; none if they cannot be had."""
    try:
        status = means.lifecycle.get_container_status(task.bot_id)
        if status is None or status.request_id != task.create_request_id("new"):
            return []
        return (yield from means.last_log(status.container_id))
    except AWAY:
        # It goes on when the engine is back.
        raise
    except Exception:  # noqa: BLE001 - the rollback does not depend on it
        _log.exception("unexpected error: the log of bot %s could not be read", task.bot_id)
        return []
