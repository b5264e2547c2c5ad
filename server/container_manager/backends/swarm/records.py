"""What a service's labels keep of a bot that the swarm itself forgets.

A task that has ended is forgotten within a second once its service has no replicas, and the swarm keeps five tasks of a
service otherwise. So the end of a run, and the number of restarts, are written down on the service.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, TypeVar, get_type_hints

Json = dict[str, Any]
R = TypeVar("R")

PREFIX = "botmaker.swarm."
LABEL_IMAGE = f"{PREFIX}image"
"""The image as it was asked for; the service itself has its digest."""
LABEL_PHASE = f"{PREFIX}phase"
LABEL_START = f"{PREFIX}start"
"""Random, one for each start."""
LABEL_LAST_RUN = f"{PREFIX}last-run"
"""A :class:`Run` as JSON."""
LABEL_RESTARTS = f"{PREFIX}restarts"
"""A :class:`Counted` as JSON."""

LABEL_LEFT_ON = f"{PREFIX}left-on"
"""The ids of the nodes on which stops have left containers, until these have certainly ended. Their tasks may be
forgotten by then.
"""
LABEL_IMAGE_CHECKED = f"{PREFIX}image-health-check"
"""``true``: the image has a health check, which a start has found."""

_ABSENT = (LABEL_LEFT_ON, LABEL_LAST_RUN)
"""Records without a value have no label."""


class Phase(Enum):
    """What a call has last done with the bot."""

    CREATED = "created"
    STARTING = "starting"
    """Nobody has seen yet how the first run went."""
    STARTED = "started"
    STOPPED = "stopped"
    REMOVING = "removing"
    """The service goes as soon as it is certain that nothing runs."""


@dataclass(frozen=True)
class Run:
    """How a run ended. ``None``: not known."""

    exit_code: int | None = None
    start_time_ns: int | None = None
    finish_time_ns: int | None = None
    error: str = ""
    """The engine's own text of a start that failed."""
    restart_count: int = 0
    node: str = ""
    """The host name of its node."""


@dataclass(frozen=True)
class Counted:
    """Runs since the last start that the swarm may have forgotten."""

    runs: int = 0
    until_ns: int = 0
    """The create time of the newest task that is counted."""


_TYPES: dict[type, dict[str, Any]] = {cls: get_type_hints(cls) for cls in (Run, Counted)}


def phase_of(service: Json) -> Phase:
    """What was last done with the bot. A service that was changed by hand counts as what it is."""
    try:
        return Phase(_labels(service).get(LABEL_PHASE))
    except ValueError:
        return Phase.STARTED if replicas_of(service) else Phase.STOPPED


def last_run_of(service: Json) -> Run | None:
    """The end of the last run; ``None``: there is none, or none that can be read."""
    return _read(Run, service, LABEL_LAST_RUN)


def counted_of(service: Json) -> Counted:
    """The runs that were counted."""
    return _read(Counted, service, LABEL_RESTARTS) or Counted()


def replicas_of(service: Json) -> int:
    """How many containers the service is to have: 0 or 1, unless it was changed by hand."""
    return _replicas(service["Spec"])


def is_image_checked(spec: Json) -> bool:
    """Whether the image is known to have a health check."""
    return (spec.get("Labels") or {}).get(LABEL_IMAGE_CHECKED) == "true"


def started(spec: Json, until_ns: int, start_id: str = "") -> Json:
    """The specification with one container to start.

    ``until_ns``: tasks up to this create time are of earlier runs; ``start_id``: tells this start from any other.
    """
    labels = {
        LABEL_PHASE: Phase.STARTING.value,
        LABEL_START: start_id,
        LABEL_RESTARTS: _text(Counted(until_ns=until_ns)),
    }
    return _changed(spec, 1, labels)


def start_id_of(service: Json) -> str:
    """What tells the service's last start from any other."""
    return str(_labels(service).get(LABEL_START) or "")


def confirmed(spec: Json, *, is_image_checked: bool = False) -> Json:
    """The specification of a bot that is seen to have started. It starts and stops nothing.

    ``is_image_checked``: the image is seen to have a health check.
    """
    checked = {LABEL_IMAGE_CHECKED: "true"} if is_image_checked else {}
    return {**spec, "Labels": {**(spec.get("Labels") or {}), LABEL_PHASE: Phase.STARTED.value, **checked}}


def stopped(spec: Json, run: Run | None = None, left_on: Collection[str] | None = None) -> Json:
    """The specification without a container, of a bot that is stopped or still to be removed.

    ``run``: how the last one ended, once that is known; ``left_on``: the ids of the nodes that one may still run on;
    ``None``: as before.
    """
    phase = Phase.REMOVING if is_removing(spec) else Phase.STOPPED
    # The end of an earlier run is not that of the last one.
    labels = {LABEL_PHASE: phase.value, LABEL_LAST_RUN: "" if run is None else _text(run)}
    stopped = _changed(spec, 0, labels)
    return stopped if left_on is None else settled(stopped, left_on)


def removing(spec: Json, left_on: Collection[str]) -> Json:
    """The specification without a container, of a bot that is to be removed. ``left_on``: as of :func:`stopped`."""
    return stopped(_changed(spec, 0, {LABEL_PHASE: Phase.REMOVING.value}), left_on=left_on)


def is_removing(spec: Json) -> bool:
    """Whether the service is kept only until it is certain that nothing runs."""
    return (spec.get("Labels") or {}).get(LABEL_PHASE) == Phase.REMOVING.value and not _replicas(spec)


def settled(spec: Json, left_on: Collection[str] = ()) -> Json:
    """The specification, where what stops have left may run on these nodes only. It starts and stops nothing."""
    return {**spec, "Labels": _with(spec, {LABEL_LEFT_ON: ",".join(sorted(left_on))})}


def left_on(service: Json) -> frozenset[str]:
    """The ids of the nodes on which stops have left containers."""
    return frozenset(filter(None, str(_labels(service).get(LABEL_LEFT_ON) or "").split(",")))


def counted(spec: Json, value: Counted) -> Json:
    """The specification with these runs counted. It starts and stops nothing."""
    return {**spec, "Labels": {**(spec.get("Labels") or {}), LABEL_RESTARTS: _text(value)}}


def _replicas(spec: Json) -> int:
    return int(spec["Mode"].get("Replicated", {}).get("Replicas", 0))


def _changed(spec: Json, replicas: int, labels: dict[str, str]) -> Json:
    return {**spec, "Labels": _with(spec, labels), "Mode": {"Replicated": {"Replicas": replicas}}}


def _with(spec: Json, labels: dict[str, str]) -> dict[str, str]:
    all_labels = {**(spec.get("Labels") or {}), **labels}
    return {key: value for key, value in all_labels.items() if value or key not in _ABSENT}


def _text(record: Run | Counted) -> str:
    return json.dumps({key: value for key, value in asdict(record).items() if value not in (None, "")})


def _read(cls: type[R], service: Json, label: str) -> R | None:
    """The record; ``None``: there is none, or somebody has written by hand what no status can show."""
    try:
        values = json.loads(_labels(service)[label])
        record = cls(**values)
    except (LookupError, ValueError, TypeError):
        return None
    return record if all(_fits(name, value, _TYPES[cls][name]) for name, value in values.items()) else None


def _fits(name: str, value: object, kind: Any) -> bool:
    limit = 2**63 if name.endswith("_ns") else 2**31
    return isinstance(value, kind) and (not isinstance(value, int) or abs(value) < limit)


def _labels(service: Json) -> Json:
    return service["Spec"].get("Labels") or {}
