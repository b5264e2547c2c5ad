"""The locks hold exact versions with hashes and nothing else, as ``pyproject.toml`` requires. Needs no network.

This module also runs in the environment of the lowest versions, and then checks that environment's lock.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.support.distributions import closure

TOP = Path(__file__).parents[2]
LOCKS = sorted((TOP / "requirements").glob("*.txt"))
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())
LINE = re.compile(
    r"(?P<name>[a-z0-9]+(?:-[a-z0-9]+)*)==(?P<version>[0-9][A-Za-z0-9.]*)"
    r"(?: ; (?P<marker>[^\\#@]+?))?(?P<hashes>(?: --hash=sha256:[0-9a-f]{64})+)"
)
LOWEST = Path(sys.prefix).name == ".venv-lowest"


@dataclass(frozen=True)
class Pin:
    """A line of a lock."""

    name: str
    version: str
    marker: Marker | None

    @property
    def applies(self) -> bool:
        """Whether its markers match this machine."""
        return self.marker is None or self.marker.evaluate()


def lines(lock: Path) -> Iterator[str]:
    """The logical lines of a lock without its comments."""
    text = lock.read_text().replace("\\\n", " ")
    yield from (
        " ".join(line.split()) for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")
    )


def pins(name: str) -> dict[str, Pin]:
    """The pins of a lock."""
    found = {}
    for line in lines(TOP / "requirements" / name):
        match = LINE.fullmatch(line)
        assert match is not None, line[:100]
        found[match["name"]] = Pin(
            match["name"], match["version"], Marker(match["marker"]) if match["marker"] else None
        )
    return found


def group(name: str) -> Iterator[Requirement]:
    """The requirements of a dependency group, including those of nested groups (PEP 735)."""
    for entry in PROJECT["dependency-groups"][name]:
        if isinstance(entry, dict):
            yield from group(entry["include-group"])
        else:
            yield Requirement(entry)


def product() -> list[Requirement]:
    """The requirements of the client, the server and every other extra."""
    texts: list[Any] = [PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values()]
    return [Requirement(text) for part in texts for text in part]


def client_and(*extras: str) -> list[Requirement]:
    """The requirements of the base install and of these extras."""
    parts = [
        PROJECT["project"]["dependencies"],
        *(PROJECT["project"]["optional-dependencies"][each] for each in extras),
    ]
    return [Requirement(text) for part in parts for text in part]


INSTALLED_BY_IMAGES = {
    "server.txt": client_and("server", "cli", "age"),
    "api-tier.txt": [*client_and(), *group("api-tier")],
    "build.txt": [Requirement(text) for text in PROJECT["build-system"]["requires"]],
}


def test_there_are_locks_to_look_at() -> None:
    assert {"audit.txt", "dev.txt", "lowest.txt", "node.txt", "protoc.txt", "uv.txt", *INSTALLED_BY_IMAGES} <= {
        lock.name for lock in LOCKS
    }


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_line_is_an_exact_version_with_hashes(lock: Path) -> None:
    """So none is a URL, a repository, a path, an editable install or an option of pip."""
    assert [] == [line[:100] for line in lines(lock) if not LINE.fullmatch(line)]
    assert "://" not in lock.read_text(), "a lock names no address"


@pytest.mark.parametrize(
    ("lock", "asked"),
    [
        ("dev.txt", [*product(), *group("dev")]),
        ("lowest.txt", [*product(), *group("test")]),
        ("protoc.txt", list(group("protoc"))),
        ("audit.txt", list(group("audit"))),
        ("node.txt", list(group("node"))),
        ("uv.txt", [Requirement("uv")]),
        *INSTALLED_BY_IMAGES.items(),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_lock_has_what_pyproject_asks_for(lock: str, asked: list[Requirement]) -> None:
    pinned = pins(lock)
    wrong = [
        str(each)
        for each in asked
        if canonicalize_name(each.name) not in pinned
        or not each.specifier.contains(pinned[canonicalize_name(each.name)].version, prereleases=True)
    ]
    assert [] == wrong, "run `make lock`"


def test_the_lowest_versions_are_the_lowest_that_pyproject_allows() -> None:
    floors: dict[str, Version] = {}
    for each in [*product(), *group("test")]:
        (floor,) = (part.version for part in each.specifier if part.operator in (">=", "=="))
        name = canonicalize_name(each.name)
        floors[name] = max(Version(floor), floors.get(name, Version("0")))
    pinned = pins("lowest.txt")
    assert floors == {name: Version(pinned[name].version) for name in floors}, "run `make lock`"


def test_the_lock_of_this_environment_is_what_is_needed_and_nothing_further() -> None:
    """The lock also has the requirements of each requirement, in fitting versions: pip installs without resolving."""
    pinned = {name: pin for name, pin in pins("lowest.txt" if LOWEST else "dev.txt").items() if pin.applies}
    assert {name: pin.version for name, pin in pinned.items()} == {name: metadata.version(name) for name in pinned}
    needed = closure([*product(), *group("test" if LOWEST else "dev")])
    assert set(pinned) == set(needed), "run `make lock`"
    unfit = [
        f"{each} but {pinned[name].version}"
        for name, asked in needed.items()
        for each in asked
        if not each.specifier.contains(pinned[name].version, prereleases=True)
    ]
    assert [] == unfit


@pytest.mark.skipif(LOWEST, reason="images have the versions of dev.txt")
@pytest.mark.parametrize("lock", INSTALLED_BY_IMAGES)
def test_what_images_install_is_all_that_is_needed_in_the_versions_that_the_tests_run_with(lock: str) -> None:
    tested = {name: pin.version for name, pin in pins("dev.txt").items()}
    installed = pins(lock)
    assert {name: tested.get(name) for name in installed} == {name: pin.version for name, pin in installed.items()}
    assert {name for name, pin in installed.items() if pin.applies} == set(closure(INSTALLED_BY_IMAGES[lock]))
