"""Bots' secrets on a swarm: what is left after whatever is killed, fails or goes on beside a change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from container_manager.backends.swarm.secrets import SwarmSecrets
from container_manager.errors import (
    ContainerManagerError,
    EngineUnavailableError,
    OperationInProgressError,
    SecretsUnavailableError,
)
from tests.support.waiting import wait_until
from tests.unit.swarm_documents import BOT
from tests.unit.swarm_secret_store import SET, Store, service

OTHER = "0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11"


class KilledError(BaseException):
    """The process is killed here."""


@pytest.fixture
def store() -> Store:
    return Store()


CHANGES: dict[str, Callable[[SwarmSecrets], None]] = {
    "first": lambda secrets: secrets.put_secrets(OTHER, {"A": b"1", "B": b"2"}),
    "put": lambda secrets: secrets.put_secrets(BOT, {"A": b"new", "C": b"new"}),
    "replace all": lambda secrets: secrets.put_secrets(BOT, {"C": b"new"}, replace_all=True),
    "delete": lambda secrets: secrets.delete_secrets(BOT, ["A"]),
    "delete all": lambda secrets: secrets.delete_all_secrets(BOT),
}
BEFORE = {"A": b"old", "B": b"old"}


def filled() -> Store:
    """A swarm with the secrets of one bot, whose service refers to them."""
    store = Store()
    service(store).put_secrets(BOT, BEFORE)
    return store


def state(store: Store) -> dict[str, dict[str, bytes] | None]:
    """The secrets of both bots; ``None``: the bot has none."""
    found: dict[str, dict[str, bytes] | None] = {}
    for bot_id in (BOT, OTHER):
        try:
            found[bot_id] = store.contents(bot_id)
        except SecretsUnavailableError:
            found[bot_id] = None
    return found


def littered() -> Store:
    """The same, where two services were killed: one amid a change, and one amid the first change of another bot."""
    store = filled()
    for name, number in (("put", 2.5), ("first", 4.5)):
        once(store, number, killed)
        with pytest.raises(KilledError):
            CHANGES[name](service(store))
    assert len(store.unnamed()) > 2
    return store


def moments(
    change: Callable[[SwarmSecrets], None], make: Callable[[], Store] = filled
) -> Iterator[tuple[Store, float]]:
    """A new swarm for each moment of the change: before each of its calls, and after each that changes something."""
    seen: list[float] = []
    store = make()
    store.calls = 0
    store.at = seen.append
    change(service(store))
    for moment in seen:
        yield make(), moment


def once(store: Store, moment: float, act: Callable[[], None]) -> None:
    """Let ``act`` happen at that moment."""

    def at(number: float) -> None:
        if number == moment:
            store.at = lambda _: None
            act()

    store.calls = 0
    store.at = at


def killed() -> None:
    raise KilledError


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_is_killed_when_the_secrets_are_those_before_or_after_and_nothing_is_left(name: str) -> None:
    after = filled()
    CHANGES[name](service(after))
    count = 0
    for store, moment in moments(CHANGES[name]):
        before = state(store)
        once(store, moment, killed)
        with pytest.raises(KilledError):
            CHANGES[name](service(store))
        assert state(store) in (before, state(after)), moment
        service(store).remove_leftovers()
        assert set() == store.unnamed(), moment
        assert state(store) in (before, state(after)), moment
        CHANGES[name](service(store))
        assert state(after) == state(store), moment
        assert set() == store.unnamed(), moment
        count += 1
    assert count > 2


SWEEPS: dict[str, Callable[[SwarmSecrets], None]] = {
    "remove leftovers": SwarmSecrets.remove_leftovers,
    "remove unused": lambda secrets: secrets.remove_unused(BOT),
}


@pytest.mark.parametrize("beside", [*CHANGES, *SWEEPS])
@pytest.mark.parametrize("name", [*CHANGES, *SWEEPS])
def test_two_services_at_once_lose_no_secret_and_leave_nothing(name: str, beside: str) -> None:
    """At any moment of one change, another service carries out another: it is as if they came one after the other."""
    changes = {**CHANGES, **SWEEPS}
    outcomes = []
    for order in ((name, beside), (beside, name)):
        store = littered()
        for each in order:
            changes[each](service(store))
        outcomes.append(state(store))
    for store, moment in moments(changes[name], littered):
        once(store, moment, lambda store=store: changes[beside](service(store)))  # type: ignore[misc]
        changes[name](service(store))
        assert state(store) in outcomes, moment
        service(store).remove_leftovers()
        assert set() == store.unnamed(), moment
        assert state(store) in outcomes, moment


@pytest.mark.parametrize("name", CHANGES)
def test_an_engine_that_fails_leaves_nothing_once_it_answers(name: str) -> None:
    for store, moment in moments(CHANGES[name]):
        before = state(store)

        def fail() -> None:
            raise EngineUnavailableError("the engine cannot be reached")

        once(store, moment, fail)
        try:
            CHANGES[name](service(store))
        except ContainerManagerError:
            assert state(store) in (before, after_of(name)), moment
        service(store).remove_unused(BOT)
        service(store).remove_unused(OTHER)
        assert set() == store.unnamed(), moment


def after_of(name: str) -> dict[str, dict[str, bytes] | None]:
    store = filled()
    CHANGES[name](service(store))
    return state(store)


def test_a_failed_change_removes_what_it_has_made(store: Store) -> None:
    secrets = service(store)
    secrets.put_secrets(BOT, {"A": b"1"})

    def fail() -> None:
        raise EngineUnavailableError("the engine cannot be reached")

    once(store, 3, fail)
    with pytest.raises(EngineUnavailableError):
        secrets.put_secrets(BOT, {"A": b"2", "B": b"2"})
    assert set() == store.unnamed()
    assert {"A": b"1"} == store.contents()


@pytest.mark.parametrize("number", [3, 6])
def test_what_an_engine_that_is_away_for_a_while_keeps_from_being_removed_goes_by_itself(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Whether the change itself has failed, or only the removal of what it has replaced."""
    monkeypatch.setattr("container_manager.backends.swarm.secrets._AGAIN_SECONDS", 0.001)
    secrets = service(store)
    secrets.put_secrets(BOT, {"A": b"1", "B": b"1"})
    store.calls = 0

    def away(moment: float) -> None:
        if number <= moment < number + 4:
            raise EngineUnavailableError("the engine cannot be reached")

    store.at = away
    with suppress(EngineUnavailableError):
        secrets.put_secrets(BOT, {"A": b"2", "B": b"2"})
    wait_until(lambda: store.calls > number + 4 and not store.unnamed(), "nothing is left")
    secrets.close()


def test_changes_that_never_end_elsewhere_are_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("container_manager.backends.swarm.secrets._PAUSE_MILLISECONDS", 1)
    secrets = service(store)
    secrets.put_secrets(BOT, {"A": b"1"})

    def at(number: float) -> None:
        for row in store.rows.values():
            if row["Spec"]["Name"] == SET and not number.is_integer():
                row["Version"] = {"Index": row["Version"]["Index"] + 1000}

    store.at = lambda number: at(float(number))
    with pytest.raises(OperationInProgressError):
        secrets.put_secrets(BOT, {"A": b"2"})
    store.at = lambda _: None
    secrets.remove_leftovers()
    assert set() == store.unnamed()


def test_leftovers_are_removed_once_the_swarm_answers(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("container_manager.backends.swarm.secrets._AGAIN_SECONDS", 0.001)
    service(store).put_secrets(BOT, {"A": b"1"})
    store.create_secret(
        {"Name": f"{SET}-x", "Data": "eA==", "Labels": {"botmaker.managed": "true", "botmaker.bot-id": BOT}}
    )
    begun = store.calls

    def at(number: float) -> None:
        if number < begun + 4:
            raise EngineUnavailableError("the engine cannot be reached")

    store.at = at
    service(store).remove_leftovers()
    assert set() == store.unnamed()
