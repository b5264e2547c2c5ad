"""Credential helpers: when they are asked, what they may answer, and what one that fails leads to."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from container_manager.deadline import Deadline
from container_manager.doctor import Verdict
from container_manager.doctor.registry_checks import check_registry_config
from container_manager.engine.images import ImagePuller
from container_manager.engine.long_calls import LongCalls
from container_manager.engine.registry_credentials import RegistryConfigError, credentials_for
from container_manager.errors import EngineUnavailableError
from container_manager.operation import carry_out
from tests.support.waiting import wait_until
from tests.unit.registry_files import ENCODED, HUB, PAIR, SECRET, Write, auth_of, written

Helper = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the file with the credentials."""
    return partial(written, tmp_path)


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Helper:
    """Puts a credential helper with this name and shell script into PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def call(name: str, script: str) -> None:
        path = tmp_path / f"docker-credential-{name}"
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o700)

    return call


def answer(username: str = "user", secret: str = SECRET) -> str:
    """A helper's script that checks its input and answers these."""
    found = json.dumps({"ServerURL": "x", "Username": username, "Secret": secret})
    return f'test "$1" = get && cat >"$0.asked" && echo \'{found}\''


@pytest.mark.parametrize(
    ("reference", "settings", "asked"),
    [
        ("reg.test/a", {"credHelpers": {"reg.test": "one"}}, "reg.test"),
        ("reg.test/a", {"credHelpers": {"reg.test": "one"}, "credsStore": "not-there"}, "reg.test"),
        ("reg.test/a", {"credHelpers": {"other.test": "not-there"}, "credsStore": "one"}, "reg.test"),
        ("reg.test:5000/a", {"credsStore": "one", "auths": {"reg.test:5000": {}}}, "reg.test:5000"),
        ("a/b", {"credsStore": "one"}, HUB),
        ("a/b", {"credHelpers": {"docker.io": "one"}}, HUB),
    ],
)
def test_a_credential_helper_is_asked(
    write: Write, helper: Helper, reference: str, settings: dict[str, Any], asked: str
) -> None:
    helper("one", answer())
    config = write(settings)
    assert PAIR == auth_of(reference, config)
    assert asked == config.path.with_name("docker-credential-one.asked").read_text()


def test_a_helper_may_give_an_identity_token(write: Write, helper: Helper) -> None:
    helper("one", answer("<token>", "t"))
    assert {"identitytoken": "t"} == auth_of("reg.test/a", write({"credsStore": "one"}))


@pytest.mark.parametrize("script", ["echo credentials not found in native keychain; exit 1", answer("", "")])
def test_where_a_helper_has_nothing_the_files_entry_counts(write: Write, helper: Helper, script: str) -> None:
    helper("one", script)
    assert PAIR == auth_of("reg.test/a", write({"credsStore": "one", "auths": {"reg.test": {"auth": ENCODED}}}))
    assert {} == auth_of("reg.test/a", write({"credsStore": "one"}))


@pytest.mark.parametrize(
    "script",
    [
        f"echo {SECRET}; echo {SECRET} >&2; exit 3",
        f"echo {SECRET}",
        f'echo \'{{"Username": null, "Secret": "{SECRET}"}}\'',
        "exit 0",
        f"echo '[\"{SECRET}\"]'",
        "kill -9 $$",
    ],
)
def test_a_helper_that_fails_is_an_error_that_names_it_and_repeats_nothing_of_its_output(
    write: Write, helper: Helper, script: str, capfd: pytest.CaptureFixture[str]
) -> None:
    helper("one", script)
    config = write({"credsStore": "one"})
    with pytest.raises(RegistryConfigError, match=r"docker-credential-one, which .*registries\.json names") as caught:
        credentials_for("reg.test/a", config)
    told = (
        "".join(traceback.format_exception(caught.value)) + repr(caught.value.__context__) + "".join(capfd.readouterr())
    )
    assert SECRET not in told


def test_a_helper_that_does_not_answer_is_ended(write: Write, helper: Helper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("container_manager.engine.registry_credentials._HELPER_SECONDS", 0.05)
    helper("one", "exec sleep 100000")
    with pytest.raises(RegistryConfigError, match=r"docker-credential-one.*did not answer"):
        credentials_for("reg.test/a", write({"credsStore": "one"}))


@pytest.mark.parametrize("then", ["", "exec sleep 100000"])
def test_a_helper_that_prints_too_much_is_ended(write: Write, helper: Helper, then: str) -> None:
    helper("one", f"head -c 2000000 /dev/zero; {then}")
    with pytest.raises(RegistryConfigError, match=r"docker-credential-one.*with more than 1048576 bytes"):
        credentials_for("reg.test/a", write({"credsStore": "one"}))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("#!/gone/sh\n", "No such file or directory"),
        ("#!/usr/bin/env gone\n", "exit code 127"),
        ("\0", "Exec format error"),
        ("#!/bin/sh\nexit 1\n", None),
        ("#!/bin/sh\nexec sleep 100000\n", None),
    ],
)
def test_the_doctor_finds_a_helper_that_cannot_be_run(
    write: Write, helper: Helper, monkeypatch: pytest.MonkeyPatch, content: str, problem: str | None
) -> None:
    """One that does not know the doctor's question, or does not answer it, may serve pulls."""
    monkeypatch.setattr("container_manager.engine.registry_credentials._VERSION_SECONDS", 0.5)
    helper("one", "")
    config = write({"credsStore": "one"})
    config.path.with_name("docker-credential-one").write_text(content)
    told = [(finding.verdict, finding.detail) for finding in check_registry_config(config)]
    assert [Verdict.OK if problem is None else Verdict.FAILED] == [verdict for verdict, _ in told]
    assert (
        problem is None or f"docker-credential-one, which {config.path} names, cannot be run: {problem}" in told[0][1]
    )


@pytest.mark.parametrize(
    "script",
    [
        "echo $$ >$0.pids; exec sleep 100000",
        "sleep 100000 & echo $$ $! >$0.pids; wait",
        "sleep 100000 >&- & echo $$ $! >$0.pids; exec >&-; wait",
    ],
)
def test_a_helper_that_hangs_ends_with_the_service(write: Write, helper: Helper, calls: LongCalls, script: str) -> None:
    """The exit of the process waits for the thread that asks it. The helper's children end as well."""
    config = write({"credsStore": "one"})
    pids = config.path.with_name("docker-credential-one.pids")
    helper("one", script)
    puller = ImagePuller(calls, config)
    with ThreadPoolExecutor(1) as pool:
        pull = pool.submit(carry_out, puller.pull("reg.test/a:1", Deadline(60)))
        wait_until(lambda: pids.exists() and pids.read_text().strip(), "the helper runs")
        calls.close()
        with pytest.raises(EngineUnavailableError):
            pull.result(60)
    wait_until(lambda: not any(map(is_alive, pids.read_text().split())), "the helper has ended", 10)


def is_alive(pid: str) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
