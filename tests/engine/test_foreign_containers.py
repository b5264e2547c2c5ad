"""Conformance 12: containers that are not ours are never touched, and never hidden."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import docker
import pytest
from docker.models.containers import Container

from botmaker.container.v1 import container_manager_pb2 as pb
from tests.support.bots import Bots
from tests.support.calls import FOREVER, Calls, fails_with
from tests.support.waiting import wait_until

Foreign = Callable[[str | None, dict[str, str]], Container]


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


def fingerprint(container: Container) -> tuple[object, ...]:
    """What must not change: that it is there, its process, its name, its labels."""
    container.reload()
    state = container.attrs["State"]
    return container.id, container.name, container.labels, state["Status"], state["Pid"], state["StartedAt"]


LABELS = {
    "none": lambda _: {},
    "another bot's": lambda _: {"botmaker.managed": "true", "botmaker.bot-id": "00000000-0000-0000-0000-000000000000"},
    "managed is false": lambda bot_id: {"botmaker.managed": "false", "botmaker.bot-id": bot_id},
    "no bot id": lambda _: {"botmaker.managed": "true"},
}


@pytest.mark.parametrize("labels", LABELS)
def test_conformance_12_a_foreign_container_with_our_name_is_never_touched(
    calls: Calls, bots: Bots, foreign: Foreign, labels: str
) -> None:
    bot_id = bots.new()
    container = foreign(f"botmaker-{bot_id}", LABELS[labels](bot_id))
    before = fingerprint(container)
    for verb in (
        lambda: calls.create(bot_id, *FOREVER),
        lambda: calls.start(bot_id),
        lambda: calls.stop(bot_id, grace=0),
        lambda: calls.restart(bot_id, grace=0),
        lambda: calls.remove(bot_id, grace=0),
    ):
        with fails_with("FAILED_PRECONDITION", "NAME_IN_USE_UNMANAGED"):
            verb()
    assert calls.status(bot_id) is None
    assert before == fingerprint(container)


def test_conformance_12_a_container_with_our_labels_but_another_name_is_listed_and_never_touched(
    calls: Calls, bots: Bots, foreign: Foreign
) -> None:
    bot_id = bots.new()
    container = foreign(f"someone-else-{bot_id}", {"botmaker.managed": "true", "botmaker.bot-id": bot_id})
    before = fingerprint(container)
    assert calls.status(bot_id) is None
    with fails_with("NOT_FOUND", "CONTAINER_NOT_FOUND"):
        calls.start(bot_id)
    calls.stop(bot_id, grace=0)
    calls.remove(bot_id, grace=0)
    own = calls.create(bot_id, *FOREVER)
    wait_until(
        lambda: {own, container.id} == {status.container_id for status in calls.listed([bot_id])}, "both are listed"
    )
    calls.remove(bot_id)
    assert before == fingerprint(container)


@pytest.mark.parametrize("label", [None, "", "not-a-uuid", "00000000-0000-0000-0000-00000000000A"])
def test_an_orphan_without_a_valid_bot_id_is_listed_with_an_empty_one(
    calls: Calls, foreign: Foreign, label: str | None
) -> None:
    labels = {"botmaker.managed": "true"} | ({} if label is None else {"botmaker.bot-id": label})
    container = foreign(None, labels)

    def running() -> list[pb.ContainerStatus]:
        listed = [status for status in calls.list() if status.container_id == container.id]
        return [status for status in listed if status.state == pb.CONTAINER_STATE_RUNNING]

    found = wait_until(running, "it is listed as running")
    assert [""] == [status.bot_id for status in found]
    assert [container.name] == [status.name for status in found]


def test_a_container_without_our_label_is_not_listed(calls: Calls, bots: Bots, foreign: Foreign) -> None:
    container = foreign(None, {"botmaker.bot-id": bots.new()})
    assert container.id not in [status.container_id for status in calls.list()]
