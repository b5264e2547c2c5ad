"""The boundary to the docker SDK; nothing but this module and :mod:`~container_manager.engine.sdk_client` imports it.

It speaks to the low-level ``APIClient`` in the engine's own JSON. The SDK's exceptions end here. Callers see
:class:`EngineRejectedError` for an error response, and the domain's ``Engine…Error`` if there was no response.
Calls that take long use :mod:`container_manager.engine.long_calls`; those from the event loop,
:mod:`container_manager.engine.async_client`.
"""

from __future__ import annotations

import http.client
import json
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar
from weakref import WeakSet

import docker
import docker.errors
import requests
import urllib3.exceptions
from docker.constants import MINIMUM_DOCKER_API_VERSION

from container_manager.backend import CallObserver
from container_manager.deadline import Deadline
from container_manager.engine.archive import FileStart, archive_response, first_file, path_stat
from container_manager.engine.call_observer import observed
from container_manager.engine.sdk_client import Json, SdkClient
from container_manager.engine.transport_errors import (
    EngineRejectedError,
    access_denied,
    denies_access,
    no_answer,
)
from container_manager.engine.user_namespace import UserNamespace, user_namespace
from container_manager.errors import EngineAccessDeniedError, EngineUnavailableError
from container_manager.model import ContainerState

T = TypeVar("T")

# Exceptions of a call without a usable response. The SDK does not wrap all of its transport's exceptions.
_NO_ANSWER = (
    docker.errors.DockerException,
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    KeyError,
    ValueError,
)
_TIMEOUTS = (requests.ReadTimeout, requests.ConnectTimeout, urllib3.exceptions.ReadTimeoutError, TimeoutError)
_HTTP_FORBIDDEN = 403
_HTTP_NOT_FOUND = 404
_IDLE_SECONDS = 8.0
_LOOK_SECONDS = 2.0
"""An unused connection is closed after the first at the earliest, and after both together at the latest."""
_clients: WeakSet[EngineClient] = WeakSet()
_closer: threading.Thread | None = None
"""Closes unused connections, while there are any: no call does it while the engine does not answer."""
_clients_lock = threading.Lock()


class EngineClient:
    """Calls to one engine, from any number of threads at once.

    Each call uses its own SDK client, since the SDK's thread safety is disputed (docker/docker-py#3229). There are
    never more clients than concurrent calls. The API version is the engine's own. It is read again after the engine was
    unreachable, because it may return as another version.
    """

    def __init__(self, docker_host: str, *, timeout_seconds: float, observer: CallObserver | None = None) -> None:
        self._docker_host = docker_host
        self._timeout_seconds = timeout_seconds
        self._observer = observer
        self._api_version: str | None = None
        self._info: Json | None = None
        # Each with the monotonic time of its last use, oldest first.
        self._idle: deque[tuple[float, SdkClient]] = deque()
        self._closed = False
        with _clients_lock:
            _clients.add(self)

    @property
    def is_local(self) -> bool:
        """Whether the engine listens on a unix socket of this host."""
        return self._docker_host.startswith("unix://")

    def close(self) -> None:
        """Close all connections; a call in progress keeps its own until it ends."""
        self._closed = True
        self.close_unused_since(math.inf)

    def ping(self, deadline: Deadline) -> None:
        """Return if the engine answers."""
        self._read("ping", lambda api: api.ping(), deadline)

    def user_namespace(self, deadline: Deadline) -> UserNamespace | None:
        """The user namespace of this engine's containers; ``None``: they have the users of the host."""
        return user_namespace(self.info(deadline))

    def info(self, deadline: Deadline) -> Json:
        """The engine's settings. As the API version, asked for once, and again after the engine was unreachable.

        They are empty if something between this process and the engine does not pass this request on (403 or 404).
        """
        info = self._info
        if info is None:
            try:
                info = self._read("info", lambda api: api.get_json("/info"), deadline)
            except EngineAccessDeniedError as exc:
                if not isinstance(exc.__cause__, EngineRejectedError) or exc.__cause__.status != _HTTP_FORBIDDEN:
                    raise
                info = {}
            except EngineRejectedError as exc:
                if exc.status != _HTTP_NOT_FOUND:
                    raise EngineUnavailableError(f"the engine does not tell its settings: {exc}") from exc
                info = {}
            self._info = info
        return info

    def inspect_container(self, name_or_id: str, deadline: Deadline) -> Json | None:
        """The engine's inspect document; ``None`` when there is no such container."""
        return self._find("inspect_container", lambda api: api.get_json(f"/containers/{name_or_id}/json"), deadline)

    def inspect_network(self, name: str, deadline: Deadline) -> Json | None:
        """The engine's inspect document of a network; ``None`` when there is none."""
        return self._find("inspect_network", lambda api: api.inspect_network(name), deadline)

    def inspect_image(self, name_or_id: str, deadline: Deadline) -> Json | None:
        """The engine's inspect document of an image; ``None`` when the engine does not have it."""
        return self._find("inspect_image", lambda api: api.get_json(f"/images/{name_or_id}/json"), deadline)

    def list_containers(self, label: str, deadline: Deadline, state: ContainerState | None = None) -> list[Json]:
        """The engine's list rows of every container that carries ``label``, in one call, whatever its state."""
        filters = {"label": [label], **({} if state is None else {"status": [state.value]})}
        rows: list[Json] = self._read(
            "list_containers", lambda api: api.containers(all=True, filters=filters), deadline
        )
        return rows

    def stat(self, container_id: str, path: str, deadline: Deadline) -> Json | None:
        """File status of ``path`` in a container, running or not: ``name``, ``size``, Go file ``mode``, ``linkTarget``.

        ``None`` if there is no such path.
        """
        return self._find(
            "stat", lambda api: path_stat(archive_response(api, "HEAD", container_id, path).headers), deadline
        )

    def read_start(self, container_id: str, path: str, size: int, deadline: Deadline) -> FileStart | None:
        """The first ``size`` bytes of a regular file in a container, running or not, with its owner.

        A directory has no bytes. ``None`` if the path leads to neither.
        """

        def read(api: SdkClient) -> FileStart | None:
            # Closed before its end: the rest of the file is not read.
            with archive_response(api, "GET", container_id, path) as response:
                return first_file(response.raw, size)

        return self._find("read_file", read, deadline)

    def version(self, deadline: Deadline) -> dict[str, Any]:
        """The engine's own document, with ``Arch``, such as ``amd64``, and ``KernelVersion`` of its machine."""
        return self._read("version", lambda api: api.version(), deadline)

    def create_container(self, name: str, body: Mapping[str, Any]) -> str:
        """Create a container from the engine's own JSON. Returns its id."""
        path = f"/containers/create?name={name}"
        return self._call("create_container", lambda api: str(json.loads(api.exchange("POST", path, body))["Id"]), None)

    def start_container(self, container_id: str) -> None:
        """Start a container: one request, never repeated. No effect on a running one."""
        self._call("start_container", lambda api: api.exchange("POST", f"/containers/{container_id}/start"), None)

    def remove_container(self, container_id: str, *, force: bool = True) -> None:
        """Remove a container with its anonymous volumes; a running one only by force."""
        path = f"/containers/{container_id}?v=1&force={int(force)}"
        self._call("remove_container", lambda api: api.exchange("DELETE", path), None)

    def _find(self, operation: str, call: Callable[[SdkClient], T], deadline: Deadline) -> T | None:
        try:
            return self._read(operation, call, deadline)
        except EngineRejectedError as exc:
            if exc.status == _HTTP_NOT_FOUND:
                return None
            raise

    def _read(self, operation: str, call: Callable[[SdkClient], T], deadline: Deadline) -> T:
        # The engine may have restarted and closed a kept connection. Reads may be repeated.
        try:
            return self._call(operation, call, deadline)
        except EngineUnavailableError:
            return self._call(operation, call, deadline)

    def _call(self, operation: str, call: Callable[[SdkClient], T], deadline: Deadline | None) -> T:
        timeout = self._timeout_seconds if deadline is None else deadline.at_most(self._timeout_seconds)
        with observed(self._observer, operation), self._translated_errors():
            try:
                _, api = self._idle.pop()
            except IndexError:
                api = self._connect(timeout)
            api.timeout = timeout  # type: ignore[assignment]  # a socket's time-out may be a part of a second
            try:
                result = call(api)
            except (docker.errors.APIError, EngineRejectedError):
                self._keep(api)
                raise
            except BaseException:
                api.close()
                raise
            self._keep(api)
            return result

    def _keep(self, api: SdkClient) -> None:
        with _clients_lock:
            self._idle.append((time.monotonic(), api))
            _start_closer()
        if self._closed:
            self.close_unused_since(math.inf)

    def close_unused_since(self, moment: float) -> bool:
        """Close the connections that no call has used since this monotonic time. Returns whether any is left."""
        # If another thread takes the oldest one meanwhile, this closes a younger one, which is idle too.
        with suppress(IndexError):
            while self._idle[0][0] < moment:
                self._idle.popleft()[1].close()
        return bool(self._idle)

    def _connect(self, timeout_seconds: float) -> SdkClient:
        if self._api_version is None:
            api = SdkClient(self._docker_host, MINIMUM_DOCKER_API_VERSION)
            api.timeout = timeout_seconds  # type: ignore[assignment]
            try:
                self._api_version = str(api.version(api_version=False)["ApiVersion"])
            finally:
                api.close()
        return SdkClient(self._docker_host, self._api_version)

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            try:
                yield
            except docker.errors.APIError as exc:
                raise EngineRejectedError(exc.status_code or 500, str(exc.explanation or exc).strip()) from exc
        except EngineRejectedError as exc:
            if denies_access(exc):
                raise access_denied(self._docker_host, exc.text) from exc
            if exc.status == 400:  # another engine may have taken its place, which refuses this version of the API
                self._api_version = self._info = None
                self.close_unused_since(math.inf)
            raise
        except _NO_ANSWER as exc:
            error = no_answer(self._docker_host, exc, _TIMEOUTS)
            if isinstance(error, EngineUnavailableError):
                self._api_version = self._info = None
                self.close_unused_since(math.inf)
            raise error from exc


def _start_closer() -> None:
    """With the lock held."""
    global _closer  # noqa: PLW0603 - one thread for all clients
    if _closer is None or not _closer.is_alive():
        _closer = threading.Thread(target=_close_unused, name="idle engine connections", daemon=True)
        # Without a thread to spare, the next call tries again.
        with suppress(RuntimeError):
            _closer.start()


def _close_unused() -> None:
    global _closer  # noqa: PLW0603
    is_left = True
    while is_left:
        time.sleep(_LOOK_SECONDS)
        with _clients_lock:
            since = time.monotonic() - _IDLE_SECONDS
            is_left = any([client.close_unused_since(since) for client in _clients])  # noqa: C419 - of each client
            if not is_left:
                _closer = None
