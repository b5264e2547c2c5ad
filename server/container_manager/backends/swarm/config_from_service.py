"""Reads a bot's configuration back from its service: the inverse of :mod:`.service_spec`.

A service holds what was asked for and nothing of the image, so this needs no image. What a create could not have made
is found as on one engine: the configuration is made into a specification again, and compared.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from container_manager.backends.bot_container import LABEL_CREATE_ID, LABEL_HOSTNAME, LABEL_REQUEST_ID, bot_id_of
from container_manager.backends.swarm.records import LABEL_IMAGE, PREFIX
from container_manager.backends.swarm.service_spec import Placement, bare_body, unescaped
from container_manager.errors import ConfigNotReproducibleError, InvalidArgumentError
from container_manager.image_reference import content_id_of
from container_manager.model import (
    TYPED_VARIABLES,
    VARIABLE_BOT_ID,
    ContainerConfig,
    ContainerDefinition,
    HealthCheck,
    PortBinding,
    Protocol,
    ResourceLimits,
)
from container_manager.validation import OWN_LABEL_PREFIX, check_config_counts, check_create

Json = dict[str, Any]

_SECOND_NS = 1e9
_ALL_ADDRESSES = "0.0.0.0"  # noqa: S104 - where a swarm publishes ports
# The service decides these at each create, or a reload of secrets does.
_NOT_COMPARED = {"StopGracePeriod", "Secrets", "Mounts", "Privileges", "Isolation", "Image", "Labels"}


def definition_of(service: Json, networks: Mapping[str, str]) -> ContainerDefinition:
    """What would make the bot's service again. ``networks``: their names by their ids.

    Raises :class:`ConfigNotReproducibleError`.
    """
    config = config_of(service, networks)
    fields = [*_refused(config), *_differences(service, config, networks)]
    if fields:
        raise ConfigNotReproducibleError(
            f"the service has settings that a create cannot give: {', '.join(fields)}; it was changed by hand; "
            "remove it and create the bot anew",
            bot_id=bot_id_of(service["Spec"].get("Labels")),
            container_id=service["ID"],
            fields=",".join(fields),
        )
    image = service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]
    return ContainerDefinition(service["ID"], config, content_id_of(image))


def config_of(service: Json, networks: Mapping[str, str]) -> ContainerConfig:
    """The configuration of a service, as far as a configuration can express it."""
    spec: Json = service["Spec"]
    template: Json = spec["TaskTemplate"]
    container: Json = template["ContainerSpec"]
    labels: Mapping[str, str] = spec.get("Labels") or {}
    variables = dict(_pair(unescaped(item), "=") for item in container.get("Env") or ())
    variables.pop(VARIABLE_BOT_ID, None)
    typed = {field: variables.pop(name, "") for field, name in TYPED_VARIABLES.items()}
    limits: Mapping[str, int] = (template.get("Resources") or {}).get("Limits") or {}
    network = next((each.get("Target", "") for each in template.get("Networks") or ()), "")
    network = networks.get(network, network)
    return ContainerConfig(
        image=labels.get(LABEL_IMAGE) or container["Image"].partition("@")[0],
        **typed,
        environment=variables,
        ports=tuple(_port(port) for port in (spec.get("EndpointSpec") or {}).get("Ports") or ()),
        network="" if network == "bridge" else network,
        extra_hosts=dict(_name_and_address(entry) for entry in container.get("Hosts") or ()),
        command=tuple(container.get("Args") or ()),
        resources=ResourceLimits(limits.get("MemoryBytes", 0), limits.get("NanoCPUs", 0), limits.get("Pids", 0)),
        health_check=_health_check(container.get("Healthcheck") or {}),
        hostname=labels.get(LABEL_HOSTNAME, ""),
        labels={key: value for key, value in labels.items() if not key.startswith(OWN_LABEL_PREFIX)},
    )


def _differences(service: Json, config: ContainerConfig, networks: Mapping[str, str]) -> Iterator[str]:
    spec: Json = service["Spec"]
    placement = Placement((spec["TaskTemplate"].get("Placement") or {}).get("Constraints") or ())
    made = bare_body(bot_id_of(spec.get("Labels")), config, placement)
    actual_template, made_template = dict(spec["TaskTemplate"]), dict(made["TaskTemplate"])
    actual_container, made_container = actual_template.pop("ContainerSpec"), made_template.pop("ContainerSpec")
    yield from _different("TaskTemplate.ContainerSpec", actual_container, made_container, _NOT_COMPARED)
    actual_template["Networks"] = [
        {**each, "Target": networks.get(each.get("Target"), each.get("Target"))}
        for each in actual_template.get("Networks") or ()
    ]
    # A platform is what the digest's manifest names.
    actual_template["Placement"] = {"Constraints": (actual_template.get("Placement") or {}).get("Constraints") or []}
    yield from _different("TaskTemplate", actual_template, made_template, {"ForceUpdate", "Runtime"})
    yield from _different(
        "Spec", _without_records(spec), _without_records(made), {"TaskTemplate", "Mode", "UpdateConfig"}
    )


def _without_records(spec: Json) -> Json:
    passing = (LABEL_CREATE_ID, LABEL_REQUEST_ID)
    labels = {
        key: value
        for key, value in (spec.get("Labels") or {}).items()
        if key not in passing and not key.startswith(PREFIX)
    }
    return {**spec, "Labels": labels}


def _different(prefix: str, actual: Json, made: Json, left_out: Collection[str]) -> Iterator[str]:
    for key in sorted({*actual, *made} - set(left_out)):
        if _set_values(actual.get(key)) != _set_values(made.get(key)):
            yield f"{prefix}.{key}"


def _set_values(value: Any) -> Any:
    """The value without what is not set: the API leaves that out, or writes null, zero or an empty list."""
    if isinstance(value, Mapping):
        values = {key: _set_values(each) for key, each in value.items()}
        return {key: each for key, each in values.items() if each} or None
    if isinstance(value, (list, tuple)):
        return [_set_values(each) for each in value] or None
    return value or None


def _refused(config: ContainerConfig) -> list[str]:
    """The fields of a configuration that a create refuses."""
    try:
        check_config_counts(config)
        check_create("", config)
    except InvalidArgumentError as exc:
        return [violation.field for violation in exc.violations]
    return []


def _pair(item: str, separator: str) -> tuple[str, str]:
    first, _, second = item.partition(separator)
    return first, second


def _name_and_address(entry: str) -> tuple[str, str]:
    address, name = _pair(entry, " ")
    return name, address


def _port(port: Mapping[str, Any]) -> PortBinding:
    protocol = Protocol(port.get("Protocol") or "tcp")
    return PortBinding(port.get("TargetPort", 0), port.get("PublishedPort", 0), _ALL_ADDRESSES, protocol)


def _health_check(check: Mapping[str, Any]) -> HealthCheck | None:
    test = check.get("Test") or []
    if test[:1] != ["CMD"]:
        return None
    return HealthCheck(
        command=tuple(test[1:]),
        interval_seconds=check.get("Interval", 0) / _SECOND_NS,
        timeout_seconds=check.get("Timeout", 0) / _SECOND_NS,
        start_period_seconds=check.get("StartPeriod", 0) / _SECOND_NS,
        retries=check.get("Retries", 0),
    )
