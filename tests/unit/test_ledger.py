"""The ledger of the fault tests: it notices a container lost, doubled or resurrected, and allows unknown outcomes."""

from __future__ import annotations

from typing import Any

import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from tests.support.ledger import UNKNOWN, Ledger
from tests.support.recorded_calls import Outcome

BOT = "00000000-0000-4000-8000-000000000001"


def outcome(verb: str, code: str = "OK", response: Any = None, **metadata: str) -> Outcome:
    return Outcome(verb, BOT, code, "", "", 0.0, 0.1, 1.0, response, tuple(metadata.items()))


def created(container_id: str) -> Outcome:
    return outcome("CreateContainer", response=pb.CreateContainerResponse(container_id=container_id))


def status(container_id: str) -> Outcome:
    shown = pb.ContainerStatus(container_id=container_id) if container_id else None
    return outcome("GetContainerStatus", response=pb.GetContainerStatusResponse(status=shown))


def listed(*container_ids: str, name: str = f"botmaker-{BOT}") -> Outcome:
    containers = [pb.ContainerStatus(container_id=each, bot_id=BOT, name=name) for each in container_ids]
    return outcome("ListManagedContainers", response=pb.ListManagedContainersResponse(containers=containers))


@pytest.mark.parametrize(
    ("story", "wrong"),
    [
        ([created("a"), status("a"), listed("a"), outcome("StartContainer"), outcome("RemoveContainer")], 0),
        ([created("a"), outcome("CreateContainer", "ALREADY_EXISTS", container_id="a")], 0),
        ([created("a"), status("")], 1),
        ([created("a"), listed()], 1),
        ([created("a"), listed("a", name="forged")], 1),
        ([created("a"), outcome("StartContainer", "NOT_FOUND")], 1),
        ([created("a"), created("b")], 1),
        ([created("a"), outcome("CreateContainer", "ALREADY_EXISTS", container_id="b")], 1),
        ([created("a"), outcome("RemoveContainer"), status("a")], 1),
        ([created("a"), outcome("RemoveContainer"), outcome("StartContainer")], 1),
        ([outcome("CreateContainer", "UNAVAILABLE"), status("a")], 0),
        ([outcome("CreateContainer", "UNAVAILABLE"), status("")], 0),
        ([created("a"), outcome("RemoveContainer", "UNAVAILABLE"), status("")], 0),
        ([created("a"), outcome("StopContainer", "UNAVAILABLE"), status("")], 1),
    ],
)
def test_an_answer_that_contradicts_those_before_it_is_noted(story: list[Outcome], wrong: int) -> None:
    ledger = Ledger()
    for each in story:
        ledger.note(each)
    assert wrong == len(ledger.wrong)


def test_an_entry_is_what_the_last_telling_answer_said() -> None:
    ledger = Ledger()
    for each, entry in (
        (created("a"), "a"),
        (outcome("RemoveContainer", "DEADLINE_EXCEEDED"), UNKNOWN),
        (outcome("RemoveContainer"), None),
        (outcome("CreateContainer", "UNAVAILABLE"), UNKNOWN),
        (outcome("CreateContainer", "ALREADY_EXISTS", container_id="b"), "b"),
    ):
        ledger.note(each)
        assert entry == ledger.entries[BOT]
