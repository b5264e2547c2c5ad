"""The locks of npm's packages have exact versions with hashes, and name no registry. Needs no network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
LOCKS = sorted(
    path
    for name in ("examples", "tests")
    for path in (TOP / name).rglob("package-lock.json")
    if "node_modules" not in path.parts
)


def addresses(part: object) -> Iterator[str]:
    """Every address in the lock but those where a package asks for money."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key != "funding":
                yield from addresses(value)
    elif isinstance(part, list):
        for value in part:
            yield from addresses(value)
    elif isinstance(part, str) and "://" in part:
        yield part


def test_there_are_locks_to_look_at() -> None:
    found = {path.parent.relative_to(TOP).as_posix() for path in LOCKS}
    assert {"examples/node_client", "tests/docs/clients"} <= found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.parent.name)
def test_a_lock_has_versions_with_hashes_and_no_address(lock: Path) -> None:
    packages = json.loads(lock.read_text())["packages"]
    locked = {name: package for name, package in packages.items() if name}
    assert [] == [name for name, package in locked.items() if not package.get("integrity", "").startswith("sha512-")]
    assert [] == list(addresses(packages))
    assert "omit-lockfile-registry-resolved=true" in (lock.parent / ".npmrc").read_text().splitlines()
