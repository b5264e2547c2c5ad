"""Reads the configuration of a bot's container, and refuses one that a create could not make again.

The configuration that was read is made into a specification, and that into the document that the engine would show of a
new container. Each setting in which the two documents differ is one that a create cannot give. So a setting that nobody
has thought of is found as well, and not lost.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from container_manager.backends.bot_container import LABEL_CREATE_ID, LABEL_REQUEST_ID
from container_manager.backends.docker.bot_networks import requested, resolved
from container_manager.backends.docker.config_from_inspect import config_from_inspect, merged_variables
from container_manager.backends.docker.lookup import find_shown_container, name_of, not_found
from container_manager.backends.docker.spec import container_body
from container_manager.config import BackendConfig
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import ConfigNotReproducibleError, InvalidArgumentError
from container_manager.image_reference import check_image_reference
from container_manager.model import ContainerConfig, ContainerDefinition, container_name
from container_manager.validation import check_config_counts, check_create

Json = dict[str, Any]

# Each create has its own, or the service decides it anew, or it is no setting of the container: which streams a command
# line was attached to. Init depends on the program (command_check).
_NOT_COMPARED = frozenset({"StopTimeout", "AttachStdin", "AttachStdout", "AttachStderr", "Init", "ConsoleSize"})
_OWN_OF_EACH_CREATE = (LABEL_CREATE_ID, LABEL_REQUEST_ID)
# Values that stand for a set: the engine keeps no order of them, or the keys of a JSON object are all that matters.
_SETS = frozenset({"Env", "ExposedPorts", "Volumes", "ExtraHosts"})
# They depend on the engine's version. None at all is a setting: systempaths=unconfined.
_KERNEL_PATHS = frozenset({"MaskedPaths", "ReadonlyPaths"})
# Of these, a container without its own has the image's.
_FROM_IMAGE = ("User", "WorkingDir", "Volumes", "StopSignal", "Entrypoint", "Cmd")
_SHM_BYTES = 64 * 1024 * 1024


class ConfigReader:
    """Reads from one engine. Safe for any number of threads."""

    def __init__(self, engine: EngineClient, config: BackendConfig) -> None:
        self._engine = engine
        self._config = config

    def read(self, bot_id: str, deadline: Deadline) -> ContainerDefinition:
        """What would make the bot's container again.

        Raises :class:`ContainerNotFoundError`, :class:`NameInUseUnmanagedError`, :class:`ConfigNotReproducibleError`.
        """
        document = find_shown_container(self._engine, bot_id, deadline)
        if document is None:
            raise not_found(bot_id)
        try:
            image = self._engine.inspect_image(document["Image"], deadline)
        except EngineRejectedError as exc:
            raise engine_error(exc, bot_id) from exc
        if image is None:
            raise ConfigNotReproducibleError(
                f"the engine no longer has the container's image {document['Image']}, so the image's settings cannot "
                "be told from the container's",
                bot_id=bot_id,
                container_id=document["Id"],
                fields="Image",
            )
        image_config = image.get("Config") or {}
        config = requested(bot_id, config_from_inspect(document, image_config), self._config.bot_network)
        runtime = self._engine.info(deadline).get("DefaultRuntime") or "runc"
        state_mount = self._state_mount(bot_id, document)
        body = self._body(bot_id, config, state_mount)
        named = [] if name_of(document) == container_name(bot_id) else ["Name"]
        fields = [*named, *_refused(config), *differences(document, body, image_config, runtime)]
        if fields:
            raise ConfigNotReproducibleError(
                f"the container has settings that a create cannot give: {', '.join(fields)}; it was made by hand, or "
                "the service's own settings have changed; remove it and create the bot anew",
                bot_id=bot_id,
                container_id=document["Id"],
                fields=",".join(fields),
            )
        return ContainerDefinition(document["Id"], config, document["Image"], state_mount)

    def _state_mount(self, bot_id: str, document: Json) -> str:
        """Where the container has the bot's own state: ``--state-mount`` may have been another one when it was made."""
        state_root = self._config.state_root
        source = None if state_root is None else state_root.source(bot_id)
        mounts = document["HostConfig"].get("Mounts") or ()
        return next((str(each["Target"]) for each in mounts if each.get("Source") == source), "")

    def _body(self, bot_id: str, config: ContainerConfig, state_mount: str) -> Json:
        state_root = self._config.state_root
        return container_body(
            bot_id,
            resolved(bot_id, config, self._config.bot_network),
            image=config.image,
            secrets_source=self._config.secrets_root.source(bot_id),
            state_source=None if state_root is None else state_root.source(bot_id),
            state_target=state_mount or self._config.state_mount,
            request_id="",
            create_id="",
            stop_seconds=0,
        )


def differences(document: Json, body: Json, image: Json, default_runtime: str) -> Iterator[str]:
    """The settings, in the engine's words, in which a container differs from one that is made by ``body``.

    ``image``: ``Config`` of the inspect document of the container's image.
    """
    expected = _merged(body, image)
    yield from (f"Config.{key}" for key in _different(_without_own_labels(document["Config"]), expected))
    host = {"Runtime": default_runtime, "ShmSize": _SHM_BYTES, **body["HostConfig"]}
    if _made_by_service(document, image):
        host |= _engines_defaults(document["HostConfig"], host)
    yield from (f"HostConfig.{key}" for key in _different(document["HostConfig"], host))
    yield from _network_differences(document, body["HostConfig"]["NetworkMode"])


def _made_by_service(document: Json, image: Json) -> bool:
    """Whether a create of this service made the container: only that gives the label, unless the image has it."""
    create_id = (document["Config"].get("Labels") or {}).get(LABEL_CREATE_ID)
    return bool(create_id) and create_id != (image.get("Labels") or {}).get(LABEL_CREATE_ID)


def _engines_defaults(actual: Json, expected: Json) -> Json:
    """What the engine's own settings (daemon.json) may have added to a create, and would add to the next one.

    Where the service made the container, nobody else can have set these: they cannot be changed afterwards.
    """
    log, found = expected["LogConfig"], actual.get("LogConfig") or {}
    return {
        "LogConfig": {**log, "Config": {**(found.get("Config") or {}), **log["Config"]}},
        "ShmSize": actual.get("ShmSize"),
        "Ulimits": actual.get("Ulimits"),
    }


def _merged(body: Json, image: Json) -> Json:
    """``Config`` of a container that the engine makes by this body (moby, ``daemon/commit.go``, ``merge``)."""
    check = {key: value for key, value in body.get("Healthcheck", {}).items() if value}
    return {
        **{key: image.get(key) for key in _FROM_IMAGE},
        **{key: value for key, value in _without_own_labels(body).items() if key != "HostConfig"},
        "Env": merged_variables(body["Env"], image.get("Env") or ()),
        "Labels": {**_without_own_labels(image)["Labels"], **_without_own_labels(body)["Labels"]},
        "ExposedPorts": {**(image.get("ExposedPorts") or {}), **body["ExposedPorts"]},
        "Healthcheck": {**(image.get("Healthcheck") or {}), **check},
    }


def _without_own_labels(config: Json) -> Json:
    labels = {key: value for key, value in (config.get("Labels") or {}).items() if key not in _OWN_OF_EACH_CREATE}
    return {**config, "Labels": labels}


def _different(actual: Json, expected: Json) -> Iterator[str]:
    for key in sorted({*actual, *expected} - _NOT_COMPARED):
        if not _same(key, actual.get(key), expected.get(key)):
            yield key


def _same(key: str, actual: Any, expected: Any) -> bool:
    if key in _KERNEL_PATHS:
        return bool(actual != [])
    if key == "Mounts":
        # A directory that the service mounts since then is no setting that would be lost.
        return all(_without_unset(mount) in map(_without_unset, expected) for mount in actual or ())
    # -1 is all that an engine without swap accounting takes.
    return (key == "MemorySwap" and actual == -1) or bool(_value(key, actual) == _value(key, expected))


def _value(key: str, value: Any) -> Any:
    """The value in one form; ``None`` for each of the engine's forms of a setting that is not set."""
    if key in _SETS:
        return sorted(value or ())
    if key == "Healthcheck":
        return _without_unset(value or {})
    return None if not value or value == -1 else value


def _without_unset(settings: Json) -> Json:
    return {key: value for key, value in settings.items() if value}


def _network_differences(document: Json, mode: str) -> Iterator[str]:
    networks: Json | None = (document.get("NetworkSettings") or {}).get("Networks")
    if networks is None:
        return
    if set(networks) != {mode}:
        yield "NetworkSettings.Networks"
    config = document["Config"]
    # The engine adds these by itself.
    known = (document["Id"][:12], config.get("Hostname"), document["Name"].removeprefix("/"))
    for name, endpoint in networks.items():
        for key in ("IPAMConfig", "Links", "DriverOpts"):
            if (endpoint or {}).get(key):
                yield f"NetworkSettings.Networks.{name}.{key}"
        if not set((endpoint or {}).get("Aliases") or ()) <= set(known):
            yield f"NetworkSettings.Networks.{name}.Aliases"


def _refused(config: ContainerConfig) -> Collection[str]:
    """The fields of a configuration that a create refuses."""
    try:
        check_config_counts(config)
        check_create("", config)
        check_image_reference(config.image)
    except InvalidArgumentError as exc:
        return [violation.field for violation in exc.violations]
    return []
