"""What a bot's container has on every backend: its labels, its variables and its health check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from container_manager.model import TYPED_VARIABLES, VARIABLE_BOT_ID, ContainerConfig, HealthCheck
from container_manager.validation import is_bot_id

LABEL_MANAGED = "botmaker.managed"
LABEL_BOT_ID = "botmaker.bot-id"
LABEL_REQUEST_ID = "botmaker.request-id"
LABEL_HOSTNAME = "botmaker.bot-hostname"
LABEL_CREATE_ID = "botmaker.create-id"
"""Random, one for each create call: tells the call's own container from any other of the same bot."""
LABEL_SWARM_SERVICE = "com.docker.swarm.service.id"
"""Of the container of a swarm's task: the engine's own label."""

LOG_OPTIONS = {"max-size": "10m", "max-file": "3"}
"""Of the engine's log driver ``json-file``."""


def bot_labels(bot_id: str, config: ContainerConfig, request_id: str, create_id: str) -> dict[str, str]:
    """The labels of a new container, the caller's own included."""
    labels = {**config.labels, LABEL_MANAGED: "true", LABEL_BOT_ID: bot_id, LABEL_CREATE_ID: create_id}
    if request_id:
        labels[LABEL_REQUEST_ID] = request_id
    if config.hostname:
        labels[LABEL_HOSTNAME] = config.hostname
    return labels


def bot_id_of(labels: Mapping[str, str] | None) -> str:
    """The bot that the labels name; empty if that is no bot's id."""
    bot_id = (labels or {}).get(LABEL_BOT_ID, "")
    return bot_id if is_bot_id(bot_id) else ""


def health_check_body(check: HealthCheck) -> dict[str, Any]:
    """The engine's form of a health check."""
    return {
        "Test": ["CMD", *check.command],
        "Interval": _nanoseconds(check.interval_seconds),
        "Timeout": _nanoseconds(check.timeout_seconds),
        "StartPeriod": _nanoseconds(check.start_period_seconds),
        "Retries": check.retries,
    }


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def environment(bot_id: str, config: ContainerConfig) -> list[str]:
    """The bot's variables, each as ``NAME=value``."""
    typed = {name: str(getattr(config, field)) for field, name in TYPED_VARIABLES.items()}
    # An empty field keeps the image's default.
    set_fields = {name: value for name, value in typed.items() if value}
    variables = {VARIABLE_BOT_ID: bot_id, **set_fields, **config.environment}
    return [f"{name}={value}" for name, value in variables.items()]
