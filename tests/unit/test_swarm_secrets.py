"""Bots' secrets on a swarm: what is written, and what is left after whatever is killed or goes on beside it."""

from __future__ import annotations

import base64
import functools
import itertools
import json
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any, cast

import pytest

from container_manager.backends.swarm.secrets import MAX_SECRETS, SwarmSecrets
from container_manager.bot_directories import BotUser
from container_manager.deadline import Deadline
from container_manager.engine.swarm import SwarmClient
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import (
    CapacityExceededError,
    ContainerManagerError,
    EngineUnavailableError,
    NotSupportedByBackendError,
    OperationInProgressError,
    SecretsUnavailableError,
)
from tests.support.waiting import wait_until
from tests.unit.swarm_documents import BOT

Json = dict[str, Any]
OTHER = "0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11"
SET = f"botmaker-{BOT}"


class KilledError(BaseException):
    """The process is killed here."""


def _locked(method: Any) -> Any:
    """Without another thread: what could not be removed is removed in one."""

    @functools.wraps(method)
    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        with self._lock:
            return method(self, *arguments, **named)

    return call


class Store:
    """The secrets of a swarm, with the rules of its manager (swarmkit ``manager/controlapi/secret.go``)."""

    def __init__(self) -> None:
        self.rows: dict[str, Json] = {}
        self.data: dict[str, bytes] = {}
        self.used: set[str] = set()
        """Secrets that a service refers to."""
        self.calls = 0
        self.at: Callable[[int], None] = lambda _: None
        """Called before each call with its number, and after each change with the number and a half."""
        self._index = itertools.count(10)
        self._lock = threading.RLock()

    @_locked
    def list_secrets(self, _deadline: Deadline, *, label: Collection[str]) -> list[Json]:
        self._step()
        (wanted,) = (each.partition("=") for each in label)
        return [json.loads(json.dumps(row)) for row in self.rows.values() if self._has(row, wanted)]

    @_locked
    def create_secret(self, body: Mapping[str, Any]) -> str:
        number = self._step()
        if any(row["Spec"]["Name"] == body["Name"] for row in self.rows.values()):
            raise EngineRejectedError(409, f"secret {body['Name']} already exists")
        data = base64.b64decode(body["Data"])
        if not data or len(body["Name"]) > 64:
            raise EngineRejectedError(400, "secret data must be larger than 0 and less than 512000 bytes")
        index = next(self._index)
        spec = {"Name": body["Name"], "Labels": dict(body["Labels"])}
        self.rows[f"id{index}"] = {
            "ID": f"id{index}",
            "Version": {"Index": index},
            "CreatedAt": "2026-01-01T00:00:01Z",
            "Spec": spec,
        }
        template = body.get("Templating") == {"Name": "golang"}
        self.data[f"id{index}"] = data.replace(b'{{""}}', b"") if template else data
        self.at(number + 0.5)
        return f"id{index}"

    @_locked
    def update_secret(self, document: Json, labels: Mapping[str, str]) -> bool:
        number = self._step()
        row = self.rows.get(document["ID"])
        if row is None:
            raise EngineRejectedError(404, f"secret {document['ID']} not found")
        if row["Version"] != document["Version"]:
            return False
        row["Version"] = {"Index": next(self._index)}
        row["Spec"]["Labels"] = dict(labels)
        self.at(number + 0.5)
        return True

    @_locked
    def remove_secret(self, secret_id: str) -> bool:
        number = self._step()
        if secret_id in self.used:
            raise EngineRejectedError(400, f"secret '{secret_id}' is in use by the following service: bot")
        found = self.rows.pop(secret_id, None) is not None
        self.at(number + 0.5)
        return found

    def contents(self, bot_id: str = BOT) -> dict[str, bytes]:
        """What the bot would find below /run/secrets."""
        return {each["File"]["Name"]: self.data[each["SecretID"]] for each in service(self).references(bot_id)}

    @_locked
    def unnamed(self) -> set[str]:
        """What no set has, and is no set that has been made."""
        sets = [row for row in self.rows.values() if row["Spec"]["Labels"].get("botmaker.swarm.secrets")]
        named = {
            content for row in sets for content in json.loads(row["Spec"]["Labels"]["botmaker.swarm.secrets"]).values()
        }
        return set(self.rows) - named - {row["ID"] for row in sets}

    @staticmethod
    def _has(row: Json, wanted: tuple[str, str, str]) -> bool:
        return bool(row["Spec"]["Labels"].get(wanted[0]) == wanted[2])

    def _step(self) -> float:
        self.calls += 1
        number = self.calls
        self.at(number)
        return number


def service(store: Store) -> SwarmSecrets:
    """A service on this swarm."""
    return SwarmSecrets(cast("SwarmClient", store), BotUser(1000, 1001))


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


def test_a_content_is_one_file_of_the_bots_user_that_nobody_else_can_read(store: Store) -> None:
    service(store).put_secrets(BOT, {"TOKEN.x-_1": b"t"})
    (reference,) = service(store).references(BOT)
    assert {"Name": "TOKEN.x-_1", "UID": "1000", "GID": "1001", "Mode": 0o400} == reference["File"]
    assert reference["SecretName"].startswith(f"{SET}-")
    assert len(reference["SecretName"]) <= 64
    assert b"t" == store.data[reference["SecretID"]]


def test_an_empty_secret_is_an_empty_file_though_a_swarm_takes_none(store: Store) -> None:
    service(store).put_secrets(BOT, {"A": b"", "B": b'{{""}}'})
    assert {"A": b"", "B": b'{{""}}'} == store.contents()
    assert [("A", 0), ("B", 6)] == [(each.name, each.size_bytes) for each in service(store).list_secrets(BOT)]


def test_no_value_and_no_digest_of_one_is_anywhere_but_in_the_data(store: Store) -> None:
    service(store).put_secrets(BOT, {"A": b"value-of-a-secret"})
    shown = json.dumps(list(store.rows.values()))
    assert "value-of-a-secret" not in shown
    assert {"botmaker.managed", "botmaker.bot-id", "botmaker.swarm.secret-name", "botmaker.swarm.secret-size"} == {
        key for row in store.rows.values() if row["Spec"]["Name"] != SET for key in row["Spec"]["Labels"]
    }


def test_put_list_replace_and_delete(store: Store) -> None:
    secrets = service(store)
    assert [] == secrets.list_secrets(BOT)
    with pytest.raises(SecretsUnavailableError, match="put them first"):
        secrets.references(BOT)
    secrets.put_secrets(BOT, {})
    assert [] == secrets.references(BOT), "no secrets, as a directory without files"
    secrets.put_secrets(BOT, {"B": b"two", "A": b"one"})
    secrets.put_secrets(BOT, {"C": b"x"})
    assert ["A", "B", "C"] == [each.name for each in secrets.list_secrets(BOT)]
    assert {1_767_225_601_000_000_000} == {each.time_ns for each in secrets.list_secrets(BOT)}
    secrets.put_secrets(BOT, {"D": b"four"}, replace_all=True)
    assert {"D": b"four"} == store.contents()
    secrets.delete_secrets(BOT, ["D", "missing"])
    assert {} == store.contents()
    secrets.delete_all_secrets(BOT)
    secrets.delete_all_secrets(BOT)
    assert {} == store.rows


def test_a_deletion_of_what_is_not_there_changes_nothing(store: Store) -> None:
    service(store).delete_secrets(BOT, ["A"])
    assert {} == store.rows


def test_what_a_service_refers_to_stays_until_it_does_not(store: Store) -> None:
    secrets = service(store)
    secrets.put_secrets(BOT, {"A": b"old"})
    ((old),) = [each["SecretID"] for each in secrets.references(BOT)]
    store.used = {old}
    secrets.put_secrets(BOT, {"A": b"new"})
    secrets.remove_unused(BOT)
    assert {old} == store.unnamed()
    assert {"A": b"new"} == store.contents()
    store.used = {each["SecretID"] for each in secrets.references(BOT)}
    secrets.remove_unused(BOT)
    assert set() == store.unnamed()
    calls = store.calls
    secrets.remove_unused(BOT)
    assert calls + 1 == store.calls, "with nothing to remove, it looks and no more"


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


def test_secrets_of_others_are_never_touched(store: Store) -> None:
    """Neither those with our labels under another name, nor those with a bot's name without labels."""
    labels = {"botmaker.managed": "true", "botmaker.bot-id": BOT}
    for name, its in (("other", labels), (f"{SET}-mine", {}), ("botmaker-x", {**labels, "botmaker.bot-id": "x"})):
        store.create_secret({"Name": name, "Data": "eA==", "Labels": its})
    secrets = service(store)
    secrets.put_secrets(BOT, {"A": b"1"})
    secrets.delete_all_secrets(BOT)
    secrets.remove_leftovers()
    assert {"other", f"{SET}-mine", "botmaker-x"} == {row["Spec"]["Name"] for row in store.rows.values()}


def test_a_secret_that_was_removed_by_hand_is_named_before_a_service_is_made(store: Store) -> None:
    secrets = service(store)
    secrets.put_secrets(BOT, {"A": b"1", "B": b"2"})
    store.rows.pop(next(each["SecretID"] for each in secrets.references(BOT) if each["File"]["Name"] == "B"))
    with pytest.raises(SecretsUnavailableError, match="secret B is not in the swarm any more"):
        secrets.references(BOT)
    assert ["A"] == [each.name for each in secrets.list_secrets(BOT)]


def test_a_set_that_was_changed_by_hand_is_told_and_loses_nothing(store: Store) -> None:
    secrets = service(store)
    secrets.put_secrets(BOT, {"A": b"1"})
    (row,) = [row for row in store.rows.values() if row["Spec"]["Name"] == SET]
    row["Spec"]["Labels"]["botmaker.swarm.secrets"] = "{"
    before = dict(store.rows)
    secrets.remove_unused(BOT)
    secrets.remove_leftovers()
    for call in (secrets.list_secrets, secrets.references, lambda bot_id: secrets.put_secrets(bot_id, {"A": b"2"})):
        with pytest.raises(SecretsUnavailableError, match=f"of the swarm secret {SET} cannot be read"):
            call(BOT)
    assert before == store.rows


def test_a_bot_has_no_more_secrets_than_its_set_can_name(store: Store) -> None:
    secrets = service(store)
    for start in range(0, MAX_SECRETS, 50):
        secrets.put_secrets(BOT, {f"S{number}": b"x" for number in range(start, start + 50)})
    with pytest.raises(CapacityExceededError):
        secrets.put_secrets(BOT, {"ONE_MORE": b"x"})
    secrets.put_secrets(BOT, {"S1": b"y"})
    assert MAX_SECRETS == len(secrets.list_secrets(BOT))
    assert set() == store.unnamed()


def test_nothing_is_kept_for_a_process_that_cannot_read_its_secrets_anew(store: Store) -> None:
    secrets = service(store)
    secrets.put_secrets(BOT, {"GATEWAY_TOKEN": b"1"}, run=5)
    secrets.put_secrets(BOT, {"GATEWAY_TOKEN": b"2"}, run=5)
    assert b"" == secrets.token_of_run(BOT, 5)
    secrets.forget_token(BOT)


def test_no_secret_is_read_back(store: Store) -> None:
    with pytest.raises(NotSupportedByBackendError, match="no backup can have any"):
        service(store).read_secrets(BOT)
