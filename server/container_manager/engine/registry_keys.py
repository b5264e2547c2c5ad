"""Which key of a file with credentials of registries is for an image's repository."""

from __future__ import annotations

import re
from collections.abc import Iterable

from container_manager.image_reference import registry_of, split_version

# Docker Hub's key in files and helpers; the others are accepted in files.
_DOCKER_HUB = "https://index.docker.io/v1/"
_DOCKER_HUB_HOSTS = ("index.docker.io", "docker.io", "registry-1.docker.io")


def place_of(reference: str) -> tuple[str, str]:
    """The key of an image's registry, and the path of its repository there, such as ``library/node``."""
    registry = registry_of(reference)
    repository = split_version(reference)[0].removeprefix(f"{registry}/")
    if registry in ("", *_DOCKER_HUB_HOSTS):
        return _DOCKER_HUB, repository if "/" in repository else f"library/{repository}"
    return registry, repository


def key_for(registry: str, repository: str, keys: Iterable[str]) -> str | None:
    """The one of these ``keys``, which may have a scheme and a path, that is for the repository.

    As in containers-auth.json(5), the longest path that leads the repository counts, then the registry without a path.
    """
    hosts = _DOCKER_HUB_HOSTS if registry == _DOCKER_HUB else (registry,)
    paths = {key: _path(key) for key in keys if host_of(key) in hosts}
    leading = [key for key, path in paths.items() if not path or f"{repository}/".startswith(f"{path}/")]
    return max(leading, key=lambda key: (len(paths[key]), key == registry), default=None)


def host_of(key: str) -> str:
    """The host of a registry's key, as Docker's CLI finds it (``ConvertToHostname``)."""
    return _without_scheme(key).partition("/")[0]


def _path(key: str) -> str:
    path = _without_scheme(key).partition("/")[2].rstrip("/")
    # The registry's API, for which older versions of Docker wrote an entry.
    return "" if path in ("v1", "v2") else path


def _without_scheme(key: str) -> str:
    return re.sub(r"^https?://", "", key)
