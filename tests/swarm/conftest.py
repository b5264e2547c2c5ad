"""A swarm of one manager and two workers, which all tests here share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.engines.releases import RELEASES
from dev.engines.tree import ensure_tree
from dev.images import CHECKOUT, TEST_IMAGE, ensure_test_image
from dev.swarm import SwarmBed

# Engines below API 1.44 keep no-new-privileges only this way.
SETTINGS = {"no-new-privileges": True}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Machines of our own need root."""
    if os.geteuid() != 0:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="machines of our own need root"))


@pytest.fixture(scope="session", params=["installed", pytest.param("docker-28.5", marks=pytest.mark.slow)])
def engine_tree(request: pytest.FixtureRequest) -> Path | None:
    """The engine's Debian release, for SwarmBed; None for the engine that is installed."""
    release = RELEASES.get(request.param)
    return ensure_tree(release, CHECKOUT / ".dev" / "engines") if release else None


@pytest.fixture(scope="session")
def session_bed(tmp_path_factory: pytest.TempPathFactory, engine_tree: Path | None) -> Iterator[SwarmBed]:
    """The swarm, for fixtures that last as long as it does. Its nodes n1 (manager), n2 and n3 have the test image."""
    with SwarmBed(tmp_path_factory.mktemp("bed"), tree=engine_tree, settings=SETTINGS) as bed:
        bed.load_image(ensure_test_image(bed.nodes[0].docker_url))
        yield bed


@pytest.fixture
def bed(session_bed: SwarmBed) -> Iterator[SwarmBed]:
    """The swarm, for one test, which may cut and kill: afterwards all nodes are up again and ready."""
    yield session_bed
    session_bed.restore()


@pytest.fixture(scope="session")
def swarm_image(session_bed: SwarmBed) -> str:
    """The test image, as it is named in the swarm's registry."""
    return f"{session_bed.registry}/{TEST_IMAGE}"
