"""Shared by the tests of create: the engine's requests and answers, and checks of the outcome."""

from __future__ import annotations

from typing import Any

import pytest

from container_manager.backends.docker.docker_service import DockerService
from container_manager.errors import ContainerManagerError
from tests.support.fake_engine import NO_CONTENT, FakeEngine, Json, Stream, error
from tests.unit.documents import BOT, ID, NAME, OTHER_ID, inspected, node_program

BY_NAME = ("GET", f"/containers/{NAME}/json")
BY_ID = ("GET", f"/containers/{ID}/json")
CREATE = ("POST", "/containers/create")
REMOVE = ("DELETE", "/containers/*")
PULL = ("POST", "/images/create")
ABSENT = error(404, "No such container")
MADE = Json({"Id": ID, "Warnings": []}, 201)
MISSING_IMAGE = error(404, "No such image: botmaker/openclaw:1")
TAKEN = error(409, f'Conflict. The container name "/{NAME}" is already in use by container "{OTHER_ID}".')


def let_create_succeed(engine: FakeEngine) -> FakeEngine:
    """Let a create succeed on the engine, unless a test overrides an answer; returns the engine."""
    engine.on(*BY_NAME, ABSENT)
    engine.on(*CREATE, MADE)
    engine.on(*BY_ID, Json(inspected()))
    engine.on("HEAD", "/containers/*/archive", node_program)
    engine.on(*REMOVE, NO_CONTENT)
    engine.on(*PULL, Stream([{"status": "Downloaded"}]))
    return engine


def refused(service: DockerService, cls: type[ContainerManagerError], **arguments: Any) -> ContainerManagerError:
    """The error of a create, which must be of exactly this class."""
    with pytest.raises(cls) as caught:
        service.create_container(BOT, **arguments)
    assert cls is type(caught.value)
    return caught.value


def removed(engine: FakeEngine) -> list[str]:
    """The ids of the containers in the engine's requests to remove, once for each request."""
    return [request.path.rpartition("/")[2] for request in engine.seen(*REMOVE)]
