"""Volumes with bots' states on single nodes, through the nodes' own engines, as far as the operator names them.

What is in a volume is read and written through a container that mounts it and is never started. The container's image
has no file. So nothing of a bot is executed, and a link in the state leads to nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from http import HTTPStatus
from typing import Any

from container_manager.backend import CallObserver
from container_manager.backend_maintenance import Copied, Progress
from container_manager.backends.bot_container import LABEL_BOT_ID
from container_manager.backends.swarm.bot_services import check_node, of_node
from container_manager.backends.swarm.placement import state_volume
from container_manager.backends.swarm.service_spec import BACKEND
from container_manager.backends.swarm.status import node_name
from container_manager.deadline import Deadline
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.engine.volumes import VolumeClient
from container_manager.errors import ContainerManagerError, InvalidStateError, NotSupportedByBackendError
from container_manager.model import container_name
from container_manager.provisioning.tree_stream import pack_tree, unpack_tree

Json = dict[str, Any]

LABEL_STATE_OF = "botmaker.state-of"
"""Of a container that is never started: the bot whose volume it mounts."""
IMAGE = ("botmaker/empty", "1")
_TOP = "state"
# A node removes the last containers of a service a moment after the service is gone.
_IN_USE_SECONDS = 10.0
_LOOK_SECONDS = 0.2


class StateVolumes:
    """Of one swarm, for any number of threads."""

    def __init__(self, endpoints: Mapping[str, str], *, seconds: float, observer: CallObserver | None = None) -> None:
        """``endpoints``: of nodes' engines, by the nodes' host names or ids. ``seconds``: the time-out of a call."""
        self._endpoints = endpoints
        self._seconds = seconds
        self._observer = observer

    def reaches(self, node: Json) -> bool:
        """Whether the operator has named the node's engine."""
        return of_node(self._endpoints, node["ID"], node_name(node)) is not None

    @contextmanager
    def opened(self, bot_id: str, node: Json) -> Iterator[StateVolume]:
        """The bot's volume on a node; it need not be there. The engine's errors in the block become the domain's.

        Raises :class:`NotSupportedByBackendError` for a node whose engine is not named, and
        :class:`EngineUnavailableError` if another node's engine is named for it.
        """
        name = node_name(node)
        endpoint = of_node(self._endpoints, node["ID"], name)
        if endpoint is None:
            raise NotSupportedByBackendError(
                f"the bot's state is on node {name}, where this service can neither read nor write it: "
                f"the operator can name that node's engine with --node-engine {name}=URL",
                bot_id=bot_id,
                backend=BACKEND,
                node=name,
            )
        with closing(VolumeClient(endpoint, timeout_seconds=self._seconds, observer=self._observer)) as engine:
            try:
                check_node(engine.info(Deadline()), node["ID"])
                yield StateVolume(engine, bot_id)
            except EngineRejectedError as exc:
                raise engine_error(exc, bot_id) from exc


class StateVolume:
    """One bot's volume on one node. Methods raise :class:`EngineRejectedError` and ``Engine…Error`` kinds."""

    def __init__(self, engine: VolumeClient, bot_id: str) -> None:
        self._engine = engine
        self._bot_id = bot_id
        self._name = container_name(bot_id)

    def remaps_users(self) -> bool:
        """Whether the engine sends the owners of files as its host numbers them, and takes them as containers do."""
        return self._engine.user_namespace(Deadline()) is not None

    def exists(self) -> bool:
        """Whether it is there."""
        return self._engine.has_volume(self._name)

    def read(self, directory: int, *, without: Collection[str], on_progress: Progress) -> Copied:
        """Copy what is in it into an open, empty directory. Arguments and errors as of :func:`unpack_tree`."""
        with self._mounted() as container_id, self._engine.archive(container_id, f"/{_TOP}") as stream:
            return unpack_tree(stream, _TOP, directory, without=without, on_progress=on_progress)

    def write(self, directory: int) -> None:
        """Make it, if it is not there, and copy what is in an open directory into it."""
        # Unpacked at the root, where no link leads further up: an engine refuses those that leave the place.
        with self._mounted() as container_id, closing(pack_tree(directory, _TOP)) as body:
            self._engine.put_archive(container_id, "/", body)

    def release(self) -> None:
        """Remove the bot's containers that have it and do not run.

        Raises :class:`InvalidStateError` while another container has it.
        """
        self._remove_containers_until(lambda: not self._engine.containers_with(self._name))

    def remove(self) -> None:
        """Remove it, if it is there, as soon as it is released. Removes containers and raises as :meth:`release`."""
        self._remove_containers_until(lambda: self._engine.remove_volume(self._name))

    def _remove_containers_until(self, is_done: Callable[[], bool]) -> None:
        patience = Deadline(_IN_USE_SECONDS)
        while not is_done():
            self._remove_containers(LABEL_BOT_ID, LABEL_STATE_OF)
            if patience.remaining() == 0:
                raise InvalidStateError("a container on the node still has the bot's state", bot_id=self._bot_id)
            time.sleep(_LOOK_SECONDS)

    @contextmanager
    def _mounted(self) -> Iterator[str]:
        """The id of a container that has the volume at the path ``/state``."""
        # One of a service that was killed has the name.
        self._remove_containers(LABEL_STATE_OF)
        container_id = self._created()
        try:
            yield container_id
        finally:
            # What cannot be removed now is removed with the next use of the volume.
            with suppress(EngineRejectedError, ContainerManagerError):
                self._engine.remove_container(container_id)

    def _created(self) -> str:
        body = {
            "Image": ":".join(IMAGE),
            # An engine asks for one.
            "Cmd": ["none"],
            "Labels": {LABEL_STATE_OF: self._bot_id},
            "HostConfig": {"Mounts": [state_volume(self._bot_id, f"/{_TOP}")], "NetworkMode": "none"},
        }
        name = f"{self._name}-state"
        try:
            return self._engine.create_container(name, body)
        except EngineRejectedError as exc:
            if exc.status != HTTPStatus.NOT_FOUND:
                raise
        self._engine.import_empty_image(*IMAGE)
        return self._engine.create_container(name, body)

    def _remove_containers(self, *labels: str) -> None:
        """Remove those that have the volume, do not run and name the bot in one of these labels."""
        for row in self._engine.containers_with(self._name):
            found = row.get("Labels") or {}
            if any(found.get(label) == self._bot_id for label in labels):
                # It runs after all, or is gone by now.
                with suppress(EngineRejectedError):
                    self._engine.remove_container(row["Id"], force=False)
