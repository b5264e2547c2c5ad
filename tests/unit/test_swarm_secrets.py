"""Bots' secrets on a swarm: what is written, read and removed, and what of others is not touched."""

from __future__ import annotations

import json

import pytest

from container_manager.backends.swarm.secrets import MAX_SECRETS
from container_manager.errors import CapacityExceededError, NotSupportedByBackendError, SecretsUnavailableError
from tests.unit.swarm_documents import BOT
from tests.unit.swarm_secret_store import SET, Store, service


@pytest.fixture
def store() -> Store:
    return Store()


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
