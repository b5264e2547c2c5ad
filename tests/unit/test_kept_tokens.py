"""The gateway token that the running process has loaded is kept for its reload, where no bot sees it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from container_manager.bot_directories import RootDirectory
from container_manager.provisioning.host_secrets import HostSecrets
from container_manager.provisioning.kept_tokens import KEPT_DIRECTORY
from tests.unit.provisioned import BOT, OTHER, USER, contents, entries, owned, root_at, staged

FIRST, SECOND = 1_700_000_000_000_000_001, 1_700_000_000_000_000_002


@pytest.fixture
def root(tmp_path: Path) -> RootDirectory:
    return root_at(tmp_path / "secrets")


@pytest.fixture
def secrets(root: RootDirectory) -> HostSecrets:
    made = HostSecrets(root, USER)
    made.put_secrets(BOT, {"GATEWAY_TOKEN": b"a", "OTHER": b"x"})
    return made


def test_the_value_that_the_process_has_loaded_is_kept_and_no_later_one(secrets: HostSecrets) -> None:
    assert b"" == secrets.token_of_run(BOT, FIRST)
    secrets.put_secrets(BOT, {"GATEWAY_TOKEN": b"b"}, run=FIRST)
    secrets.put_secrets(BOT, {"GATEWAY_TOKEN": b"c"}, run=FIRST)
    secrets.put_secrets(BOT, {"OTHER": b"y"}, run=FIRST)
    assert b"a" == secrets.token_of_run(BOT, FIRST)
    assert b"" == secrets.token_of_run(BOT, SECOND), "it has loaded another one"
    secrets.put_secrets(BOT, {"GATEWAY_TOKEN": b"d"}, run=SECOND)
    assert (b"", b"c") == (secrets.token_of_run(BOT, FIRST), secrets.token_of_run(BOT, SECOND))


@pytest.mark.parametrize("how", ["delete", "replace all"])
def test_the_value_is_kept_also_when_the_token_is_removed(secrets: HostSecrets, root: RootDirectory, how: str) -> None:
    if how == "delete":
        secrets.delete_secrets(BOT, ["OTHER", "GATEWAY_TOKEN"], run=FIRST)
    else:
        secrets.put_secrets(BOT, {"OTHER": b"y"}, replace_all=True, run=FIRST)
    assert b"a" == secrets.token_of_run(BOT, FIRST)
    for run in (FIRST, None):
        secrets.delete_secrets(BOT, ["GATEWAY_TOKEN"], run=run)
        secrets.put_secrets(BOT, {"OTHER": b"z"}, replace_all=True, run=run)
    secrets.put_secrets(BOT, {"GATEWAY_TOKEN": b"b"}, run=FIRST)
    assert b"a" == secrets.token_of_run(BOT, FIRST)
    assert [] == staged(root)


def test_it_is_the_services_own_and_outside_of_every_bots_directory(secrets: HostSecrets, root: RootDirectory) -> None:
    secrets.put_secrets(BOT, {"GATEWAY_TOKEN": b"b"}, run=FIRST)
    kept = root.path / KEPT_DIRECTORY
    assert (os.geteuid(), os.getegid(), "0o700") == owned(kept)
    assert {(os.geteuid(), os.getegid(), "0o600")} == {owned(path) for path in kept.iterdir()}
    assert {f"{BOT}.{FIRST}": b"a"} == contents(kept)
    assert {"GATEWAY_TOKEN": b"b", "OTHER": b"x"} == contents(root.path / BOT)
    assert [] == staged(root)


def test_the_bots_file_keeps_a_single_link(secrets: HostSecrets, root: RootDirectory) -> None:
    """OpenClaw refuses a secret file with several."""
    token = root.path / BOT / "GATEWAY_TOKEN"
    before = os.open(token, os.O_RDONLY)
    secrets.put_secrets(BOT, {"GATEWAY_TOKEN": b"b"}, run=FIRST)
    assert (0, 1) == (os.fstat(before).st_nlink, token.stat().st_nlink)
    os.close(before)


@pytest.mark.parametrize("how", ["forget", "delete", "not running"])
def test_it_is_removed_once_it_is_of_no_use(secrets: HostSecrets, root: RootDirectory, how: str) -> None:
    secrets.put_secrets(OTHER, {"GATEWAY_TOKEN": b"o"})
    for bot_id in (BOT, OTHER):
        secrets.put_secrets(bot_id, {"GATEWAY_TOKEN": b"b"}, run=FIRST)
    if how == "forget":
        secrets.forget_token(BOT)
    elif how == "delete":
        secrets.delete_all_secrets(BOT)
    else:
        secrets.put_secrets(BOT, {"GATEWAY_TOKEN": b"c"})
    assert [f"{OTHER}.{FIRST}"] == entries(root.path / KEPT_DIRECTORY)


def test_nothing_is_kept_of_a_bot_that_does_not_run_or_has_no_token(secrets: HostSecrets, root: RootDirectory) -> None:
    secrets.put_secrets(BOT, {"GATEWAY_TOKEN": b"b"})
    secrets.put_secrets(OTHER, {"GATEWAY_TOKEN": b"b"}, run=FIRST)
    secrets.forget_token(BOT)
    assert [BOT, OTHER] == entries(root.path)


def test_nothing_is_to_be_forgotten_until_any_service_has_kept_something(root: RootDirectory) -> None:
    ours, another = HostSecrets(root, USER), HostSecrets(root, USER)
    another.put_secrets(BOT, {"GATEWAY_TOKEN": b"a"})
    assert not ours.may_keep_token(BOT)
    another.put_secrets(BOT, {"GATEWAY_TOKEN": b"b"}, run=FIRST)
    assert ours.may_keep_token(BOT)


def test_it_is_unknown_whether_something_is_to_be_forgotten_where_the_root_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    root = tmp_path / "file" / "secrets"
    assert HostSecrets(RootDirectory(root, root), USER).may_keep_token(BOT)


def test_what_is_no_file_is_not_read(secrets: HostSecrets, root: RootDirectory) -> None:
    token = root.path / BOT / "GATEWAY_TOKEN"
    for place in (lambda: token.symlink_to("OTHER"), lambda: os.mkfifo(token)):
        token.unlink()
        place()
        secrets.put_secrets(BOT, {"GATEWAY_TOKEN": b"b"}, run=FIRST)
        assert b"" == secrets.token_of_run(BOT, FIRST)
