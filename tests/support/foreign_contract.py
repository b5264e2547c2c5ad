"""Conformance 12 on every backend: what the service has not made is never touched and never hidden.

A backend's test module inherits the class. Its fixtures: ``calls``, ``observer``, ``bots`` and ``foreign``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from tests.support.calls import FOREVER, Calls
from tests.support.foreign import every_outcome
from tests.support.lifecycle_contract import SomeBots
from tests.support.waiting import wait_until


class SomeContainer(Protocol):
    """What a backend has for a container, as its engine's own client shows it."""

    id: str
    name: str
    attrs: dict[str, Any]
    """The engine's document."""

    def reload(self) -> None:
        """Read the document anew."""


Foreign = Callable[[str | None, dict[str, str]], SomeContainer]
"""Runs a container beside the service, by name and labels."""

LABELS = {
    "none": lambda _: {},
    "another bot's": lambda _: {"botmaker.managed": "true", "botmaker.bot-id": "00000000-0000-0000-0000-000000000000"},
    "managed is false": lambda bot_id: {"botmaker.managed": "false", "botmaker.bot-id": bot_id},
    "no bot id": lambda _: {"botmaker.managed": "true"},
}


def malformed(bot_id: str) -> dict[str, str]:
    """Labels that are almost those of a bot."""
    return {"botmaker.managed": "true", "botmaker.bot-id": f"{bot_id}/../{bot_id}", "botmaker.request-id": "wish"}


CAPITALS = "our name in capitals"
FORGERIES: dict[str, tuple[Callable[[str], str], Callable[[str], dict[str, str]]]] = {
    "our name and more": (lambda bot_id: f"botmaker-{bot_id}-1", lambda _: {"botmaker.managed": "true"}),
    "a malformed bot id": (lambda bot_id: f"else-{bot_id}", malformed),
    CAPITALS: (
        lambda bot_id: f"botmaker-{bot_id.upper()}",
        lambda bot_id: {"botmaker.managed": "true", "botmaker.bot-id": bot_id.upper()},
    ),
}


class ForeignContract:
    """Containers with all of a bot's marks but one."""

    @pytest.mark.parametrize("labels", LABELS)
    def test_conformance_12_a_foreign_container_with_our_name_is_never_touched(
        self, calls: Calls, observer: ContainerObserverStub, bots: SomeBots, foreign: Foreign, labels: str
    ) -> None:
        bot_id = bots.new()
        container = foreign(f"botmaker-{bot_id}", LABELS[labels](bot_id))
        before = fingerprint(container)
        outcomes = every_outcome(calls, observer, bot_id)
        assert "None" == outcomes.pop("status")
        assert {"NAME_IN_USE_UNMANAGED"} == set(outcomes.values()), outcomes
        assert before == fingerprint(container)

    @pytest.mark.parametrize("forgery", FORGERIES)
    def test_a_forged_container_is_shown_as_what_it_is_beside_the_bots_own_and_no_verb_acts_on_it(
        self, calls: Calls, observer: ContainerObserverStub, bots: SomeBots, foreign: Foreign, forgery: str
    ) -> None:
        bot_id = bots.new()
        name, labels = (make(bot_id) for make in FORGERIES[forgery])
        container = foreign(name, labels)
        before = fingerprint(container)
        absent = every_outcome(calls, observer, "00000000-0000-4000-8000-000000000000")
        outcomes = every_outcome(calls, observer, bot_id)
        # The outcomes of a bot without forged containers; remove has removed what create created.
        assert absent["create"] == "SECRETS_UNAVAILABLE"
        assert re.fullmatch("[0-9a-z]{25,64}", outcomes["create"]), outcomes
        assert outcomes["create"] != container.id
        assert {"CONTAINER_ALREADY_EXISTS"} == {outcomes["create with a request id"]}
        assert ["None"] * 4 == [outcomes[verb] for verb in ("start", "stop", "restart", "remove")]
        assert ["CONTAINER_NOT_FOUND", "None"] == [outcomes["logs"], outcomes["status"]]
        (shown,) = wait_until(
            lambda: [each for each in calls.list() if each.container_id == container.id], "it is listed"
        )
        assert (name, "", pb.CONTAINER_STATE_RUNNING) == (shown.name, shown.bot_id, shown.state)
        assert before == fingerprint(container)

    def test_conformance_12_a_container_with_our_labels_but_another_name_is_shown_and_never_touched(
        self, calls: Calls, observer: ContainerObserverStub, bots: SomeBots, foreign: Foreign
    ) -> None:
        bot_id = bots.new()
        own = calls.create(bot_id, *FOREVER)
        labels = {"botmaker.managed": "true", "botmaker.bot-id": bot_id, "botmaker.request-id": "wish"}
        container = foreign(f"someone-else-{bot_id}", labels)
        before = fingerprint(container)
        wait_until(
            lambda: {own, container.id} == {status.container_id for status in calls.listed([bot_id])}, "both are listed"
        )
        # Beside the bot's own container, it is only listed.
        status = calls.status(bot_id)
        assert status is not None
        assert own == status.container_id
        calls.start(bot_id)
        calls.stop(bot_id, grace=0)
        calls.remove(bot_id)
        # Without one, it is what the bot has.
        logs = observer.StreamLogs(observer_pb.StreamLogsRequest(bot_id=bot_id), timeout=60)
        assert [] == list(logs)
        outcomes = every_outcome(calls, observer, bot_id, logs=False)
        status = calls.status(bot_id)
        assert status is not None
        assert str(status) == outcomes.pop("status")
        assert {"CONTAINER_NAME_MISMATCH"} == set(outcomes.values())
        assert (container.id, container.name, pb.CONTAINER_STATE_RUNNING) == (
            status.container_id,
            status.name,
            status.state,
        )
        assert before == fingerprint(container)

    @pytest.mark.parametrize("label", [None, "", "not-a-uuid", "00000000-0000-0000-0000-00000000000A"])
    def test_an_orphan_without_a_valid_bot_id_is_listed_with_an_empty_one(
        self, calls: Calls, foreign: Foreign, label: str | None
    ) -> None:
        labels = {"botmaker.managed": "true"} | ({} if label is None else {"botmaker.bot-id": label})
        container = foreign(None, labels)

        def running() -> list[pb.ContainerStatus]:
            listed = [status for status in calls.list() if status.container_id == container.id]
            return [status for status in listed if status.state == pb.CONTAINER_STATE_RUNNING]

        found = wait_until(running, "it is listed as running")
        assert [""] == [status.bot_id for status in found]
        assert [container.name] == [status.name for status in found]

    def test_a_container_without_our_label_is_not_listed(self, calls: Calls, bots: SomeBots, foreign: Foreign) -> None:
        container = foreign(None, {"botmaker.bot-id": bots.new()})
        assert container.id not in [status.container_id for status in calls.list()]


def fingerprint(container: SomeContainer) -> dict[str, Any]:
    """The engine's inspect document, which must not change."""
    container.reload()
    return container.attrs
