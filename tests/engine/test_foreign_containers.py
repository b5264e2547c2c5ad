"""Conformance 12: foreign containers are never touched and never hidden."""

from __future__ import annotations

from collections.abc import Iterator

import docker
import pytest
from docker.models.containers import Container

from tests.support.calls import FOREVER
from tests.support.foreign_contract import Foreign, ForeignContract


@pytest.fixture
def foreign(engine: docker.DockerClient, test_image: str, test_labels: dict[str, str]) -> Iterator[Foreign]:
    """Runs a container beside the service, by name and labels."""
    made = []

    def run(name: str | None, labels: dict[str, str]) -> Container:
        container = engine.containers.run(
            test_image, list(FOREVER), name=name, labels={**test_labels, **labels}, detach=True, network_mode="none"
        )
        made.append(container)
        return container

    yield run
    for container in made:
        container.remove(force=True)


class TestForeign(ForeignContract):
    """With the fixtures of the real engine."""
