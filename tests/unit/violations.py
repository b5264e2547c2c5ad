"""The violations that validation finds in a config."""

from __future__ import annotations

from container_manager.errors import InvalidConfigError
from container_manager.model import ContainerConfig
from container_manager.validation import check_config_counts, check_create


def violations(config: ContainerConfig | None = None, request_id: str = "") -> list[tuple[str, str]]:
    """The field and the description of each violation; empty for a valid config."""
    config = config or ContainerConfig()
    try:
        check_config_counts(config)
        check_create(request_id, config)
    except InvalidConfigError as exc:
        return [(violation.field, violation.description) for violation in exc.violations]
    return []


def fields(config: ContainerConfig | None = None, request_id: str = "") -> list[str]:
    """The fields of the violations."""
    return [field for field, _ in violations(config, request_id)]
