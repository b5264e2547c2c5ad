"""The engine's calls about volumes, and about what is in them."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from http import HTTPStatus

from container_manager.deadline import Deadline
from container_manager.engine.archive import ArchiveStream, archive_response
from container_manager.engine.call_observer import observed
from container_manager.engine.client import EngineClient
from container_manager.engine.sdk_client import Json, SdkClient
from container_manager.engine.transport_errors import EngineRejectedError, error_text


class VolumeClient(EngineClient):
    """Of one engine."""

    def has_volume(self, name: str) -> bool:
        """Whether there is a volume of this name."""
        return self._find("inspect_volume", lambda api: api.get_json(f"/volumes/{name}"), Deadline()) is not None

    def remove_volume(self, name: str) -> bool:
        """Remove a volume with all that is in it, if it is there; False: a container, running or not, has it."""
        try:
            self._call("remove_volume", lambda api: api.exchange("DELETE", f"/volumes/{name}"), None)
        except EngineRejectedError as exc:
            if exc.status == HTTPStatus.CONFLICT:
                return False
            if exc.status != HTTPStatus.NOT_FOUND:
                raise
        return True

    def containers_with(self, volume: str) -> list[Json]:
        """The engine's list rows of every container, running or not, that has this volume."""
        rows: list[Json] = self._read(
            "list_containers", lambda api: api.containers(all=True, filters={"volume": [volume]}), Deadline()
        )
        return rows

    def import_empty_image(self, repository: str, tag: str) -> None:
        """Make an image without any file."""

        def make(api: SdkClient) -> None:
            # The SDK's own method has no time-out.
            url = f"{api.base_url}/v{api.api_version}/images/create"
            params = {"fromSrc": "-", "repo": repository, "tag": tag}
            response = api.request("POST", url, params=params, data=bytes(tarfile.RECORDSIZE), timeout=api.timeout)
            if not response.ok:
                raise EngineRejectedError(response.status_code, error_text(response.content))

        self._call("import_image", make, None)

    @contextmanager
    def archive(self, container_id: str, path: str) -> Iterator[ArchiveStream]:
        """A path of a container, running or not, as a tar stream of any length.

        The client's time-out is for each read.
        """
        with ExitStack() as stack:
            with observed(self._observer, "read_archive"), self._translated_errors():
                api = stack.enter_context(closing(self._connect(self._timeout_seconds)))
                api.timeout = self._timeout_seconds  # type: ignore[assignment]
                response = stack.enter_context(archive_response(api, "GET", container_id, path))
            yield ArchiveStream(response, self._translated_errors)

    def put_archive(self, container_id: str, path: str, body: Iterable[bytes]) -> None:
        """Unpack a tar stream of any length into a directory of a container, running or not.

        Owners keep the stream's numbers. The client's time-out is for each piece, and for the response after the last.
        """

        def put(api: SdkClient) -> None:
            with archive_response(api, "PUT", container_id, path, body):
                pass

        self._call("write_archive", put, None)
