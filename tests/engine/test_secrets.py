"""Conformance 7: a bot sees its own secrets only."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from container_manager.backends.docker.docker_service import DockerService
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig
from container_manager.errors import SecretsUnavailableError
from container_manager.model import ContainerConfig
from tests.support.bots import GATEWAY_TOKEN, Bots
from tests.support.calls import FOREVER, Calls, fails_with


def run_in(bots: Bots, bot_id: str, *command: str) -> tuple[int, str]:
    """Exit code and output of a command inside the bot's container."""
    done = bots.engine.containers.get(f"botmaker-{bot_id}").exec_run(list(command))
    return done.exit_code, done.output.decode()


def test_conformance_07_a_bot_reads_its_secrets_and_cannot_write_them(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    calls.run(bot_id, *FOREVER)
    assert run_in(bots, bot_id, "cat", "/run/secrets/GATEWAY_TOKEN") == (0, GATEWAY_TOKEN)
    exit_code, output = run_in(bots, bot_id, "touch", "/run/secrets/new")
    assert exit_code != 0
    assert "Read-only file system" in output


def test_conformance_07_another_bots_files_are_not_reachable(calls: Calls, bots: Bots) -> None:
    bot_id, other = bots.new(), bots.new()
    (bots.secrets_root / other / "OTHER").write_text("other")
    calls.run(bot_id, *FOREVER)
    assert run_in(bots, bot_id, "find", "/run/secrets") == (0, "/run/secrets\n/run/secrets/GATEWAY_TOKEN\n")
    exit_code, _ = run_in(bots, bot_id, "ls", f"/run/secrets/../{other}")
    assert exit_code != 0


def test_conformance_07_a_link_inside_the_secrets_leads_nowhere_on_the_host(calls: Calls, bots: Bots) -> None:
    bot_id, other = bots.new(), bots.new()
    (bots.secrets_root / bot_id / "LINK").symlink_to(bots.secrets_root / other / "GATEWAY_TOKEN")
    calls.run(bot_id, *FOREVER)
    exit_code, output = run_in(bots, bot_id, "cat", "/run/secrets/LINK")
    assert exit_code != 0
    assert GATEWAY_TOKEN not in output


def test_conformance_07_a_secret_replaced_by_rename_is_seen(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    calls.run(bot_id, *FOREVER)
    fresh = bots.secrets_root / bot_id / ".GATEWAY_TOKEN.new"
    fresh.write_text("rotated")
    fresh.chmod(0o644)
    fresh.replace(bots.secrets_root / bot_id / "GATEWAY_TOKEN")
    assert run_in(bots, bot_id, "cat", "/run/secrets/GATEWAY_TOKEN") == (0, "rotated")


def test_a_missing_secrets_directory_is_refused_and_nothing_is_created_or_made(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    (bots.secrets_root / bot_id / "GATEWAY_TOKEN").unlink()
    (bots.secrets_root / bot_id).rmdir()
    with fails_with("FAILED_PRECONDITION", "SECRETS_UNAVAILABLE"):
        calls.create(bot_id, *FOREVER)
    assert bots.containers() == []
    assert not (bots.secrets_root / bot_id).exists()


def test_a_secrets_directory_that_is_a_link_to_another_bots_is_refused(calls: Calls, bots: Bots) -> None:
    bot_id, other = bots.new(), bots.new()
    own = bots.secrets_root / bot_id
    (own / "GATEWAY_TOKEN").unlink()
    own.rmdir()
    own.symlink_to(bots.secrets_root / other)
    with fails_with("FAILED_PRECONDITION", "SECRETS_UNAVAILABLE") as caught:
        calls.create(bot_id, *FOREVER)
    assert "symbolic link" in caught[0].message
    assert bots.containers() == []
    own.unlink()


def test_a_secrets_directory_that_became_a_link_keeps_the_container_from_starting(calls: Calls, bots: Bots) -> None:
    bot_id, other = bots.new(), bots.new()
    calls.create(bot_id, *FOREVER)
    own = bots.secrets_root / bot_id
    (own / "GATEWAY_TOKEN").unlink()
    own.rmdir()
    own.symlink_to(bots.secrets_root / other)
    for verb in (calls.start, calls.restart):
        with fails_with("FAILED_PRECONDITION", "SECRETS_UNAVAILABLE"):
            verb(bot_id)
    assert bots.inspect(bot_id)["State"]["Status"] == "created"
    own.unlink()


def test_a_host_root_that_the_engine_does_not_have_is_secrets_unavailable_with_its_text(
    bots: Bots, service_config: BackendConfig, tmp_path: Path
) -> None:
    wrong = RootDirectory(bots.secrets_root, tmp_path / "not-there")
    service = DockerService(replace(service_config, secrets_root=wrong))
    with pytest.raises(SecretsUnavailableError, match=str(tmp_path / "not-there")):
        service.create_container(bots.new(), ContainerConfig(command=FOREVER))
    service.close()
    assert bots.containers() == []
    assert not (tmp_path / "not-there").exists()


def test_a_start_of_a_running_bot_whose_secrets_directory_has_gone_is_ok(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    calls.run(bot_id, *FOREVER)
    before = calls.status(bot_id)
    shutil.rmtree(bots.secrets_root / bot_id)
    calls.start(bot_id)
    assert before == calls.status(bot_id)
    with fails_with("FAILED_PRECONDITION", "SECRETS_UNAVAILABLE"):
        calls.restart(bot_id, grace=0)
    assert before == calls.status(bot_id)
    calls.stop(bot_id, grace=0)
    with fails_with("FAILED_PRECONDITION", "SECRETS_UNAVAILABLE"):
        calls.start(bot_id)
