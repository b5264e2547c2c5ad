"""How one engine's containers with a bot's labels and another name are found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from container_manager.backends.docker.config_reader import ConfigReader
from container_manager.backends.docker.docker_service import DockerService
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.errors import (
    ConfigNotReproducibleError,
    ContainerNameMismatchError,
    EngineUnavailableError,
    NameInUseUnmanagedError,
)
from tests.support.fake_engine import NO_CONTENT, FakeEngine, Json, Request, error
from tests.unit.documents import BOT, ID, LABELS, NAME, OTHER_ID, inspected, row, running

LIST = ("GET", "/containers/json")
VERBS = ("create_container", "start_container", "stop_container", "restart_container", "remove_container")
ANNA = inspected(running(), name="botmaker-anna")
NEWER = inspected(running(), container_id=OTHER_ID, name="botmaker-berta", Created="2026-11-20T10:00:00.123456790Z")


def keeps(engine: FakeEngine, *documents: dict[str, Any]) -> None:
    """The engine has these containers, which it lists by the bot's label."""
    for document in documents:
        for key in (document["Id"], document["Name"].removeprefix("/")):
            engine.on("GET", f"/containers/{key}/json", Json(document))

    def listed(request: Request) -> Json:
        assert {"label": [f"botmaker.bot-id={BOT}"]} == json.loads(request.query["filters"])
        return Json([row(each["Id"], Names=[each["Name"]], Labels=each["Config"]["Labels"]) for each in documents])

    engine.on(*LIST, listed)


@pytest.mark.parametrize("verb", VERBS)
def test_a_change_is_refused_with_the_newest_one_and_sends_nothing(
    engine: FakeEngine, service: DockerService, verb: str
) -> None:
    keeps(engine, NEWER, ANNA)
    with pytest.raises(ContainerNameMismatchError) as caught:
        getattr(service, verb)(BOT)
    assert {"bot_id": BOT, "container_id": OTHER_ID, "name": "botmaker-berta"} == caught.value.metadata
    assert {"GET"} == {request.method for request in engine.requests}


def test_the_status_is_of_the_newest_one_by_the_nanosecond(engine: FakeEngine, service: DockerService) -> None:
    keeps(engine, NEWER, ANNA)
    status = service.get_container_status(BOT)
    assert status is not None
    assert (OTHER_ID, "botmaker-berta") == (status.container_id, status.name)


@pytest.mark.parametrize(
    "labels", [{"botmaker.bot-id": BOT}, {**LABELS, "botmaker.managed": "false"}], ids=["one label", "not managed"]
)
def test_a_container_with_one_of_the_two_labels_is_nobodys(
    engine: FakeEngine, service: DockerService, labels: dict[str, str]
) -> None:
    keeps(engine, inspected(running(), name="botmaker-anna", labels=labels))
    assert service.get_container_status(BOT) is None
    service.stop_container(BOT)
    service.remove_container(BOT)
    assert {"GET"} == {request.method for request in engine.requests}


@pytest.mark.parametrize("verb", VERBS)
def test_a_foreign_container_of_the_bots_name_comes_first_for_changes_and_not_for_reads(
    engine: FakeEngine, service: DockerService, verb: str
) -> None:
    keeps(engine, ANNA)
    engine.on("GET", f"/containers/{NAME}/json", Json(inspected(container_id=OTHER_ID, labels={})))
    with pytest.raises(NameInUseUnmanagedError):
        getattr(service, verb)(BOT)
    status = service.get_container_status(BOT)
    assert status is not None
    assert ID == status.container_id


def test_one_that_is_renamed_between_two_looks_is_the_bots(engine: FakeEngine, service: DockerService) -> None:
    """As by an adoption: the engine does not know the bot's name yet, and then lists the container with it."""
    keeps(engine, NEWER, inspected(running()))
    engine.on("GET", f"/containers/{NAME}/json", error(404, "No such container"))
    engine.on("POST", f"/containers/{ID}/stop", NO_CONTENT)
    service.stop_container(BOT)
    assert 1 == len(engine.seen("POST", f"/containers/{ID}/stop"))


def test_one_that_is_removed_meanwhile_does_not_count(engine: FakeEngine, service: DockerService) -> None:
    keeps(engine, NEWER, ANNA)
    engine.on("GET", f"/containers/{OTHER_ID}/json", error(404, "No such container"))
    with pytest.raises(ContainerNameMismatchError) as caught:
        service.start_container(BOT)
    assert ID == caught.value.metadata["container_id"]


@pytest.mark.parametrize("call", ["remove_container", "create_container", "get_container_status"])
def test_an_engine_that_cannot_list_them_is_no_engine_without_them(
    engine: FakeEngine, service: DockerService, call: str
) -> None:
    engine.on(*LIST, error(500, "boom"))
    with pytest.raises(EngineUnavailableError):
        getattr(service, call)(BOT)


def test_its_configuration_is_none_that_a_create_could_give(engine: FakeEngine, client: EngineClient) -> None:
    keeps(engine, {**ANNA, "HostConfig": {"Mounts": []}})
    engine.on("GET", "/images/*/json", Json({"Config": {}}))
    engine.on("GET", "/info", Json({}))
    root = RootDirectory(Path("/"), Path("/"))
    with pytest.raises(ConfigNotReproducibleError) as caught:
        ConfigReader(client, BackendConfig(secrets_root=root)).read(BOT, Deadline())
    assert "Name" == caught.value.metadata["fields"].split(",")[0]
