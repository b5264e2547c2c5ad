"""What validation says of a config."""

from __future__ import annotations

from container_manager.errors import InvalidConfigError
from container_manager.model import ContainerConfig
from container_manager.validation import check_config_counts, check_create


def violations(config: ContainerConfig | None = None, request_id: str = "") -> list[tuple[str, str]]:
    """Field and description of each violation; empty when all is well."""
    config = config or ContainerConfig()
    try:
        check_config_counts(config)
        check_create(request_id, config)
    except InvalidConfigError as exc:
        return [(violation.field, violation.description) for violation in exc.violations]
    return []


def fields(config: ContainerConfig | None = None, request_id: str = "") -> list[str]:
    """Only the fields."""
    return [field for field, _ in violations(config, request_id)]
