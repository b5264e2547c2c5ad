"""Which labels of a container are the caller's own, and its hostname, beside the image's labels."""

from __future__ import annotations

from typing import Any

import pytest

from container_manager.backends.docker import status_reader
from container_manager.backends.docker.lifecycle import DockerLifecycle
from container_manager.backends.docker.status import status_from_row
from container_manager.backends.docker.status_reader import StatusReader
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig
from container_manager.errors import EngineUnavailableError
from container_manager.model import ContainerStatus
from tests.support.fake_engine import FakeEngine, Json, error
from tests.unit.documents import BOT, IMAGE_ID, LABELS, inspected, row

OWN = {"team": "blue", "app": "x=y"}


def read(labels: dict[str, str] | None, image_labels: dict[str, str] | None = None, **config: Any) -> ContainerStatus:
    """The status of a container with these labels, of an image with those."""
    reader = StatusReader()
    reader.learn(IMAGE_ID, {"Config": {"Labels": image_labels}})
    return reader.status(inspected(labels=labels, config=config))


@pytest.mark.parametrize(
    ("labels", "image_labels", "own"),
    [
        (LABELS, None, ()),
        ({**LABELS, **OWN}, None, (("app", "x=y"), ("team", "blue"))),
        ({**LABELS, **OWN}, {"team": "blue"}, (("app", "x=y"),)),
        ({**LABELS, **OWN}, {"team": "red", "app": "x=y"}, (("team", "blue"),)),
        ({**LABELS, "org.opencontainers.image.version": "1"}, {"org.opencontainers.image.version": "1"}, ()),
        ({**LABELS, "botmaker.create-id": "c", "botmaker.request-id": "r", "botmaker.later": "x"}, {}, ()),
        (None, {"team": "blue"}, ()),
    ],
)
def test_the_callers_own_labels_are_those_that_the_image_has_not_or_has_differently(
    labels: dict[str, str] | None, image_labels: dict[str, str] | None, own: tuple[tuple[str, str], ...]
) -> None:
    assert own == read(labels, image_labels).labels


@pytest.mark.parametrize(
    ("label", "host_name", "image_label", "hostname"),
    [
        (None, BOT, None, ""),
        ("anna", "anna", None, "anna"),
        # As BotMaker made them: the label alone.
        ("anna", "3f4e9c000000", None, "anna"),
        # An image that was committed from a bot gives its label to others.
        ("anna", BOT, "anna", ""),
        ("anna", "anna", "anna", "anna"),
        ("berta", "berta", "anna", "berta"),
    ],
)
def test_the_hostname_is_the_bots_own_and_not_of_a_committed_image(
    label: str | None, host_name: str, image_label: str | None, hostname: str
) -> None:
    name = "botmaker.bot-hostname"
    labels = {**LABELS, **({name: label} if label else {})}
    image_labels = {name: image_label} if image_label else {}
    assert hostname == read(labels, image_labels, Hostname=host_name).hostname


def test_a_row_of_a_container_that_cannot_be_inspected_can_still_be_found_by_its_labels() -> None:
    assert (("app", "x=y"), ("team", "blue")) == status_from_row(row(Labels={**LABELS, **OWN})).labels


@pytest.fixture
def lifecycle(engine: FakeEngine, secrets_root: RootDirectory) -> Any:
    lifecycle = DockerLifecycle(BackendConfig(secrets_root=secrets_root, docker_host=engine.url))
    yield lifecycle
    lifecycle.close()


def test_an_image_is_asked_for_its_labels_once_and_only_if_a_container_has_any(
    engine: FakeEngine, lifecycle: DockerLifecycle
) -> None:
    path = f"/images/{IMAGE_ID}/json"
    engine.on("GET", "/containers/*/json", Json(inspected()), Json(inspected(labels={**LABELS, **OWN})))
    engine.on("GET", path, Json({"Config": {"Labels": {"team": "blue"}}}))
    assert lifecycle.get_container_status(BOT) is not None
    assert [] == engine.seen("GET", path)
    for _ in range(3):
        status = lifecycle.get_container_status(BOT)
        assert status is not None
        assert (("app", "x=y"),) == status.labels
    assert 1 == len(engine.seen("GET", path))


def test_a_container_whose_image_is_gone_shows_all_its_labels(engine: FakeEngine, lifecycle: DockerLifecycle) -> None:
    engine.on("GET", "/containers/*/json", Json(inspected(labels={**LABELS, **OWN})))
    engine.on("GET", "/images/*/json", error(404, "No such image"))
    status = lifecycle.get_container_status(BOT)
    assert status is not None
    assert dict(OWN) == dict(status.labels)


def test_an_image_that_cannot_be_asked_for_its_labels_is_told_and_holds_up_no_stop(
    engine: FakeEngine, lifecycle: DockerLifecycle
) -> None:
    engine.on("GET", "/containers/*/json", Json(inspected(labels={**LABELS, **OWN})))
    engine.on("GET", "/images/*/json", error(500, "the image store is broken"))
    engine.on("POST", "/containers/*/stop", Json(None, 304))
    with pytest.raises(EngineUnavailableError, match="the image store is broken"):
        lifecycle.get_container_status(BOT)
    lifecycle.stop_container(BOT)


def test_the_labels_of_many_images_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_reader, "_MAX_IMAGES", 2)
    reader = StatusReader()
    for image_id in ("a", "b", "c"):
        reader.learn(image_id, None)
    document = inspected(labels={**LABELS, **OWN})
    unknown = [reader.unknown_image({**document, "Image": image_id}) for image_id in ("a", "b", "c")]
    assert ["a", "", ""] == unknown
