"""The credentials with which nodes pull a bot's image, given anew with each start."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from container_manager.backends.swarm.lifecycle import SwarmLifecycle
from container_manager.config import RegistryConfig
from container_manager.deadline import Deadline
from container_manager.errors import OperationCancelledError
from container_manager.model import PullPolicy
from container_manager.operation import carry_out
from tests.support.waiting import wait_until
from tests.unit.swarm_documents import BOT, DIGEST
from tests.unit.swarm_operations import create, run
from tests.unit.swarm_world import SwarmWorld


@pytest.fixture
def registries(tmp_path: Path) -> RegistryConfig:
    """It has the password ``first`` for the registry of the bot's image."""
    registries = RegistryConfig(tmp_path / "registries.json")
    write(registries, "first")
    return registries


@pytest.fixture
def lifecycle(make_lifecycle: Callable[..., SwarmLifecycle], registries: RegistryConfig) -> SwarmLifecycle:
    """With a bot that was created."""
    lifecycle = make_lifecycle(registry_config=registries)
    create(lifecycle)
    return lifecycle


def write(registries: RegistryConfig, password: str) -> None:
    entry = {"username": "a", "password": password}
    registries.path.write_text(json.dumps({"auths": {"registry.test": entry}}), encoding="utf-8")


def passwords(world: SwarmWorld) -> list[str]:
    given = [json.loads(base64.urlsafe_b64decode(each)) for each in world.registry_auths if each]
    assert {"registry.test"} == {each["serveraddress"] for each in given}
    return [each["password"] for each in given]


def test_each_start_and_restart_gives_nodes_the_credentials_that_are_there_by_now(
    world: SwarmWorld, lifecycle: SwarmLifecycle, registries: RegistryConfig
) -> None:
    write(registries, "second")
    carry_out(lifecycle.start_container(BOT))
    carry_out(lifecycle.start_container(BOT))
    assert ["second"] == passwords(world)
    write(registries, "third")
    carry_out(lifecycle.restart_container(BOT))
    assert ["second", "third"] == passwords(world)


@pytest.mark.parametrize(
    "content",
    [None, "{", '{"auths": {"registry.test": {"auth": "?"}}}', '{"credsStore": "none-of-this-name"}', "{}"],
    ids=["no file", "no JSON", "no base64", "no such helper", "nothing"],
)
def test_a_start_without_usable_credentials_leaves_nodes_those_that_they_have(
    world: SwarmWorld, lifecycle: SwarmLifecycle, registries: RegistryConfig, content: str | None
) -> None:
    if content is None:
        registries.path.unlink()
    else:
        registries.path.write_text(content, encoding="utf-8")
    carry_out(lifecycle.start_container(BOT))
    assert {None} == set(world.registry_auths)


@pytest.fixture
def asked(registries: RegistryConfig, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a line for each question to the helper that :func:`use_helper` names."""
    monkeypatch.setenv("PATH", f"{registries.path.parent}:{os.environ['PATH']}")
    return registries.path.with_name("docker-credential-one.asked")


def use_helper(registries: RegistryConfig, then: str) -> None:
    """Name a credential helper that notes each question, and then does this."""
    path = registries.path.with_name("docker-credential-one")
    path.write_text(f'#!/bin/sh\necho asked >>"$0.asked"\n{then}\n', encoding="utf-8")
    path.chmod(0o700)
    registries.path.write_text('{"credsStore": "one"}', encoding="utf-8")


def test_a_restart_asks_a_helper_once_and_before_it_stops_the_bot(
    world: SwarmWorld, make_lifecycle: Callable[..., SwarmLifecycle], registries: RegistryConfig, asked: Path
) -> None:
    lifecycle = make_lifecycle(registry_config=registries)
    run(lifecycle)
    use_helper(registries, """echo '{"Username": "a", "Secret": "new"}'""")
    questions: list[int] = []
    world.registry_auths.clear()
    world.on_update = lambda: questions.append(len(asked.read_text().split()) if asked.exists() else 0)
    carry_out(lifecycle.restart_container(BOT))
    assert {1} == set(questions)
    assert ["new"] == passwords(world)


@pytest.mark.parametrize("call", ["start_container", "restart_container"])
def test_a_helper_that_hangs_is_given_up_with_the_caller_and_the_bot_starts_without_it(
    world: SwarmWorld, lifecycle: SwarmLifecycle, registries: RegistryConfig, asked: Path, call: str
) -> None:
    use_helper(registries, "exec sleep 100000")
    deadline = Deadline()

    def start() -> None:
        # The first run may come before it is looked whether the caller waits for that.
        with suppress(OperationCancelledError):
            carry_out(getattr(lifecycle, call)(BOT, deadline=deadline))

    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(start)
        wait_until(asked.exists, "the helper runs")
        deadline.cancel()
        started.result(10)
    assert 1 == world.replicas
    assert {None} == set(world.registry_auths)


def test_a_helper_that_hangs_is_given_up_with_the_caller_of_a_create(
    world: SwarmWorld, make_lifecycle: Callable[..., SwarmLifecycle], registries: RegistryConfig, asked: Path
) -> None:
    lifecycle = make_lifecycle(registry_config=registries)
    use_helper(registries, "exec sleep 100000")
    deadline = Deadline()
    with ThreadPoolExecutor(1) as pool:
        # One that puts a bot back asks no registry before.
        made = pool.submit(create, lifecycle, image_id=DIGEST, deadline=deadline)
        wait_until(asked.exists, "the helper runs")
        deadline.cancel()
        with pytest.raises(OperationCancelledError):
            made.result(10)
    assert {} == world.services


def test_a_create_of_an_image_that_nodes_do_not_pull_reads_no_credentials(
    world: SwarmWorld,
    make_lifecycle: Callable[..., SwarmLifecycle],
    registries: RegistryConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(world, "inspect_image", lambda *_: {"Id": DIGEST}, raising=False)
    registries.path.write_text("{", encoding="utf-8")
    create(make_lifecycle(registry_config=registries, pull_policy=PullPolicy.NEVER))
    assert 1 == len(world.services)
