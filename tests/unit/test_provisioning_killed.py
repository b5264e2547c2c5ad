"""The process is killed before each of its steps: no bot sees half a file, and the same call completes the work."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from container_manager.bot_directories import RootDirectory
from container_manager.provisioning.host_files import HostFiles
from container_manager.provisioning.host_secrets import HostSecrets
from container_manager.provisioning.staging import STAGING_PREFIX, remove_leftovers, staging_directory, write_staged
from tests.unit.provisioned import BOT, USER, contents, entries, flock_on_nfs, owned, root_at, staged

# The audit events of the steps (Python's table of audit events). Writes and fsyncs have none.
STEPS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chown", "os.chmod")
OLD, NEW = b"old" * 1000, b"new" * 1000


def killed_before_step(number: int, work: Callable[[], None]) -> bool:
    """Do the work in a child process that is killed before that step of its; False: it had fewer steps."""
    with warnings.catch_warnings():
        # The child runs no other code than this.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            _die_before(number)
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert signal.SIGKILL == os.WTERMSIG(status)
        return True
    return False


def _die_before(number: int) -> None:
    steps = itertools.count()

    def step(event: str, _: Any = None) -> None:
        if event in STEPS and next(steps) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    write, fsync = os.write, os.fsync

    def half_written(descriptor: int, data: Any) -> int:
        written = write(descriptor, data[: len(data) // 2 + 1])
        step("open")
        return written

    def synced(descriptor: int) -> None:
        step("open")
        fsync(descriptor)

    os.write, os.fsync = half_written, synced
    sys.addaudithook(step)


def kills(work: Callable[[], None]) -> Iterator[int]:
    """Kill the work before its first step, its second one, and so on, until it has no more steps."""
    for number in itertools.count():
        if not killed_before_step(number, work):
            assert number > 5, "it has that many steps"
            return
        yield number


@pytest.fixture
def root(tmp_path: Path) -> RootDirectory:
    return root_at(tmp_path / "root")


def test_no_half_secret_is_ever_seen_and_the_same_call_completes_it(root: RootDirectory) -> None:
    secrets = HostSecrets(root, USER)
    names = ["A", "B", "C"]
    for _ in kills(lambda: secrets.put_secrets(BOT, dict.fromkeys(names, NEW), replace_all=True)):
        seen = contents(root.path / BOT) if (root.path / BOT).exists() else {}
        assert {OLD, NEW} >= set(seen.values())
        secrets.remove_leftovers()
        assert [] == staged(root)
        secrets.put_secrets(BOT, dict.fromkeys(names, NEW), replace_all=True)
        assert dict.fromkeys(names, NEW) == contents(root.path / BOT)
        assert (*USER, "0o700") == owned(root.path / BOT)
        # For the next one: once with a directory that is there already, once without.
        secrets.delete_all_secrets(BOT)
        if _ % 2:
            secrets.put_secrets(BOT, {"A": OLD, "OTHER": OLD})


def test_the_token_that_a_running_bot_has_loaded_is_kept_whenever_its_replacement_is_killed(
    root: RootDirectory,
) -> None:
    secrets = HostSecrets(root, USER)

    def replace() -> None:
        secrets.put_secrets(BOT, {"GATEWAY_TOKEN": NEW}, run=1)

    secrets.put_secrets(BOT, {"GATEWAY_TOKEN": OLD})
    for _ in kills(replace):
        seen = (root.path / BOT / "GATEWAY_TOKEN").read_bytes()
        assert seen in {OLD, NEW}
        assert OLD == (secrets.token_of_run(BOT, 1) or seen), "the process can be asked to reload"
        secrets.remove_leftovers()
        replace()
        assert (NEW, OLD) == ((root.path / BOT / "GATEWAY_TOKEN").read_bytes(), secrets.token_of_run(BOT, 1))
        secrets.put_secrets(BOT, {"GATEWAY_TOKEN": OLD})
        secrets.forget_token(BOT)


def test_no_half_file_is_ever_seen_and_the_same_call_completes_it(root: RootDirectory) -> None:
    files = HostFiles(root, USER)
    wanted = {"a/b/one": NEW, "a/two": NEW, "three": NEW}
    for number in kills(lambda: files.put_files(BOT, wanted)):
        seen = contents(root.path / BOT) if (root.path / BOT).exists() else {}
        assert {OLD, NEW} >= set(seen.values())
        files.remove_leftovers()
        assert [] == staged(root)
        files.put_files(BOT, wanted)
        assert wanted == contents(root.path / BOT)
        assert {(*USER, "0o700")} == {owned(path) for path in (root.path / BOT).rglob("*") if path.is_dir()}
        files.delete_state(BOT)
        if number % 2:
            files.put_files(BOT, {"a/b/one": OLD, "three": OLD})


def test_secrets_and_state_are_there_as_a_whole_or_gone_when_their_removal_is_killed(root: RootDirectory) -> None:
    secrets, files = HostSecrets(root, USER), HostFiles(root, USER)
    wanted = {"a/b/c": OLD, "a/d": OLD, "e": OLD}
    for remove in (files.delete_state, secrets.delete_all_secrets):
        files.put_files(BOT, wanted)
        for _ in kills(lambda remove=remove: remove(BOT)):
            if (root.path / BOT).exists():
                assert wanted == contents(root.path / BOT)
            files.remove_leftovers()
            remove(BOT)
            assert [] == entries(root.path)
            files.put_files(BOT, wanted)


def test_the_removal_of_leftovers_can_itself_be_killed(root: RootDirectory) -> None:
    def left() -> None:
        directory = root.path / f"{STAGING_PREFIX}left"
        (directory / "removed" / "a" / "b").mkdir(parents=True, exist_ok=True)
        (directory / "removed" / "a" / "c").touch()
        (directory / "0").touch()

    left()
    for _ in kills(lambda: remove_leftovers(root.path)):
        remove_leftovers(root.path)
        assert [] == staged(root)
        left()


@pytest.mark.parametrize("flock", [fcntl.flock, flock_on_nfs])
def test_what_a_running_call_has_staged_is_not_removed(
    root: RootDirectory, monkeypatch: pytest.MonkeyPatch, flock: Callable[[int, int], None]
) -> None:
    """A second service on the same root starts, on the same machine or another one."""
    monkeypatch.setattr(fcntl, "flock", flock)
    opened = os.open(root.path, os.O_RDONLY)
    with staging_directory(opened) as staging:
        write_staged(staging, [b"content"], USER)
        remove_leftovers(root.path)
        (directory,) = staged(root)
        assert b"content" == (root.path / directory / "0").read_bytes()
    os.close(opened)
    assert [] == entries(root.path)


def test_where_there_are_no_locks_calls_go_on_and_nothing_is_taken_for_a_leftover(
    root: RootDirectory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    (root.path / f"{STAGING_PREFIX}left").mkdir()
    HostSecrets(root, USER).put_secrets(BOT, {"A": b"a"})
    remove_leftovers(root.path)
    assert {f"{BOT}/A": b"a"} == {path: each for path, each in contents(root.path).items() if path.startswith(BOT)}
    assert [f"{STAGING_PREFIX}left"] == staged(root)
    assert "cannot be removed: No locks available" in caplog.text


def test_leftovers_that_cannot_be_removed_are_logged_and_the_others_removed(
    root: RootDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    (root.path / f"{STAGING_PREFIX}a").symlink_to("/")
    (root.path / f"{STAGING_PREFIX}b").mkdir()
    (root.path / "mine").mkdir()
    remove_leftovers(root.path)
    assert [f"{STAGING_PREFIX}a", "mine"] == entries(root.path)
    assert "cannot be removed: Not a directory" in caplog.text
