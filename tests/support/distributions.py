"""The dependencies of distributions, from the metadata of the installed ones."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Everything that the base install adds: nothing for Docker, and no server.
CLIENT_NEEDS = {"googleapis-common-protos", "grpcio", "grpcio-status", "protobuf", "typing-extensions"}


def needs(distribution: str, extra: str = "") -> list[Requirement]:
    """The requirements of an installed distribution on this machine; with an extra, those that the extra adds."""
    found = [Requirement(text) for text in metadata.requires(distribution) or ()]
    plain = [each for each in found if each.marker is None or each.marker.evaluate({"extra": ""})]
    if not extra:
        return plain
    return [each for each in found if each.marker and each.marker.evaluate({"extra": extra}) and each not in plain]


def closure(requirements: Iterable[Requirement]) -> dict[str, list[Requirement]]:
    """Every distribution that these require, directly or not, by canonical name, with all requirements for it."""
    found: dict[str, list[Requirement]] = {}
    seen: set[tuple[str, str]] = set()
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        found.setdefault(name, []).append(requirement)
        for extra in ("", *requirement.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                waiting += needs(name, extra)
    return found
