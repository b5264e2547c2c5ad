"""What distributions need, from the metadata of those that are installed here."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# All that the base install brings along; nothing of Docker, and nothing that listens.
CLIENT_NEEDS = {"googleapis-common-protos", "grpcio", "grpcio-status", "protobuf", "typing-extensions"}


def needs(distribution: str, extra: str = "") -> list[Requirement]:
    """What an installed distribution asks for on this machine; with an extra, what that one adds."""
    found = [Requirement(text) for text in metadata.requires(distribution) or ()]
    plain = [each for each in found if each.marker is None or each.marker.evaluate({"extra": ""})]
    if not extra:
        return plain
    return [each for each in found if each.marker and each.marker.evaluate({"extra": extra}) and each not in plain]


def closure(requirements: Iterable[Requirement]) -> dict[str, list[Requirement]]:
    """Every distribution that these bring along, by its canonical name, with all that is asked of it."""
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
