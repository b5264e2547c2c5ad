"""Bots' secrets in a real swarm: as files of a container, and what is left of changes that are killed or at once."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import docker
import pytest
from docker.errors import APIError

from botmaker.container.v1 import bot_provisioner_pb2 as pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from container_manager.backends.swarm.secret_set import LABEL_SECRETS
from container_manager.backends.swarm.secrets import SwarmSecrets
from container_manager.bot_directories import BotUser
from container_manager.engine.swarm import SwarmClient
from dev.images import CHECKOUT
from dev.swarm import SwarmBed
from tests.support.calls import FOREVER, Calls, fails_with
from tests.support.provisioning_calls import put_secrets
from tests.support.swarm_bots import SwarmBots
from tests.support.waiting import wait_until

Json = dict[str, Any]
USER = BotUser(1000, 1001)
CHANGES = """
import sys
from container_manager.backends.swarm.secrets import SwarmSecrets
from container_manager.bot_directories import BotUser
from container_manager.engine.swarm import SwarmClient
secrets = SwarmSecrets(SwarmClient(sys.argv[1], timeout_seconds=30), BotUser(1000, 1001))
many = {f"S{number}": b"x" for number in range(20)}
while True:
    secrets.put_secrets(sys.argv[2], many, replace_all=True)
    secrets.delete_secrets(sys.argv[2], list(many))
"""


@pytest.fixture
def api(session_bed: SwarmBed) -> Iterator[docker.APIClient]:
    """The manager itself."""
    api = docker.APIClient(session_bed.nodes[0].docker_url, version="auto", timeout=30)
    yield api
    api.close()


@pytest.fixture
def bot_id(api: docker.APIClient) -> Iterator[str]:
    """A bot; everything of it is removed afterwards."""
    bot_id = str(uuid.uuid4())
    yield bot_id
    with suppress(APIError):
        api.remove_service(f"botmaker-{bot_id}")
    for row in rows(api, bot_id):
        api.remove_secret(row["ID"])


@pytest.fixture
def secrets(session_bed: SwarmBed) -> SwarmSecrets:
    """As a service has them."""
    return SwarmSecrets(SwarmClient(session_bed.nodes[0].docker_url, timeout_seconds=30), USER)


def rows(api: docker.APIClient, bot_id: str) -> list[Json]:
    """The swarm's secrets of the bot."""
    return list(api.secrets(filters={"label": f"botmaker.bot-id={bot_id}"}))


def unnamed(api: docker.APIClient, bot_id: str) -> set[str]:
    """Those that the bot's set does not name."""
    found = rows(api, bot_id)
    named: set[str] = set()
    for each in found:
        named |= set(json.loads(each["Spec"]["Labels"].get(LABEL_SECRETS) or "{}").values())
    return {row["ID"] for row in found if row["Spec"]["Name"] != f"botmaker-{bot_id}"} - named


def inside(
    bed: SwarmBed, bot_id: str, host: str, script: str, user: str = "1000:1001"
) -> subprocess.CompletedProcess[str]:
    """What a script prints in the bot's running container, which is on this node."""
    node = next(node for node in bed.nodes if node.name == host)
    docker_on_node = ("docker", "--host", node.docker_url)
    names = (f"--filter=name=botmaker-{bot_id}", "--filter=status=running", "--quiet")
    listed = subprocess.run([*docker_on_node, "ps", *names], capture_output=True, text=True, check=True)
    command = [*docker_on_node, "exec", "--user", user, listed.stdout.strip(), "sh", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_each_secret_is_a_read_only_file_of_the_bots_user_also_an_empty_one_and_many_large_ones(
    session_bed: SwarmBed, api: docker.APIClient, secrets: SwarmSecrets, swarm_image: str, bot_id: str
) -> None:
    values = {"EMPTY": b"", "TEMPLATE": b'{{""}}', "BYTES.x-_1": bytes(range(256)), "X" * 128: b"long name"}
    values |= {f"LARGE{number}": os.urandom(64 * 1024) for number in range(60)}
    secrets.put_secrets(bot_id, values)
    container = {"Image": swarm_image, "Command": ["sleep", "10000"], "Secrets": secrets.references(bot_id)}
    api.create_service(
        {"ContainerSpec": container, "Networks": [{"Target": "bridge"}]},
        name=f"botmaker-{bot_id}",
        endpoint_spec={"Mode": "dnsrr"},
    )

    def running() -> Json | None:
        tasks = api.tasks(filters={"service": f"botmaker-{bot_id}"})
        return next((task for task in tasks if task["Status"]["State"] == "running"), None)

    task = wait_until(running, "the bot runs")
    hosts = {node["ID"]: node["Description"]["Hostname"] for node in api.nodes()}
    script = "cd /run/secrets && for f in *; do stat -c '%n %u %g %a' $f; md5sum <$f; done; touch EMPTY NEW 2>&1"
    found = inside(session_bed, bot_id, hosts[task["NodeID"]], script)
    lines = found.stdout.splitlines()
    expected = {name: f"{name} 1000 1001 400" for name in values}
    assert expected == {line.split()[0]: line for line in lines if line.endswith(" 1000 1001 400")}
    files = dict(zip(lines[: 2 * len(values) : 2], lines[1 : 2 * len(values) : 2], strict=True))
    assert {name: hashlib.md5(value).hexdigest() for name, value in values.items()} == {
        line.split()[0]: digest.split()[0] for line, digest in files.items()
    }
    assert found.returncode != 0
    assert [each.name for each in secrets.list_secrets(bot_id)] == sorted(values)


def test_new_secrets_reach_a_bot_by_a_restart_that_the_caller_allows_and_nothing_of_the_old_ones_is_left(
    session_bed: SwarmBed, api: docker.APIClient, calls: Calls, provisioner: BotProvisionerStub, bots: SwarmBots
) -> None:
    bot_id = bots.bare()
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"first", GONE=b"x")
    calls.run(bot_id, *FOREVER)

    def shown() -> dict[str, str]:
        status = calls.status(bot_id)
        assert status is not None
        script = "cd /run/secrets; for f in *; do echo $f $(cat $f); done"
        return dict(
            line.split() for line in inside(session_bed, bot_id, status.node, script, user="0").stdout.splitlines()
        )

    def reload(mode: int) -> int:
        request = pb.ReloadSecretsRequest(bot_id=bot_id, mode=mode)
        return int(provisioner.ReloadSecrets(request, timeout=60).outcome)

    assert {"GATEWAY_TOKEN": "first", "GONE": "x"} == shown()
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"second", replace_all=True)
    with fails_with("FAILED_PRECONDITION", "SECRETS_RELOAD_FAILED"):
        reload(pb.ReloadSecretsRequest.MODE_RELOAD)
    assert {"GATEWAY_TOKEN": "first", "GONE": "x"} == shown()
    assert 2 == len(unnamed(api, bot_id)), "the service still refers to them"
    restarted = reload(pb.ReloadSecretsRequest.MODE_RELOAD_OR_RESTART)
    assert pb.ReloadSecretsResponse.OUTCOME_RESTARTED == restarted
    assert {"GATEWAY_TOKEN": "second"} == shown()
    assert set() == unnamed(api, bot_id)
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"third")
    calls.stop(bot_id)
    assert pb.ReloadSecretsResponse.OUTCOME_NOT_RUNNING == reload(pb.ReloadSecretsRequest.MODE_RELOAD_OR_RESTART)
    calls.start(bot_id)
    assert {"GATEWAY_TOKEN": "third"} == shown()
    assert set() == unnamed(api, bot_id)
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"fourth")
    calls.remove(bot_id)
    assert set() == unnamed(api, bot_id)
    provisioner.DeleteSecrets(pb.DeleteSecretsRequest(bot_id=bot_id))
    assert [] == rows(api, bot_id)


def test_what_a_killed_service_has_left_is_removed_by_the_next_one(
    session_bed: SwarmBed, api: docker.APIClient, secrets: SwarmSecrets, bot_id: str
) -> None:
    leftovers = 0

    def cleared() -> bool:
        secrets.remove_leftovers()
        return not unnamed(api, bot_id)

    for _ in range(4):
        command = [sys.executable, "-c", CHANGES, session_bed.nodes[0].docker_url, bot_id]
        with subprocess.Popen(command, cwd=CHECKOUT) as changing:
            wait_until(lambda: unnamed(api, bot_id), "a change is under way")
            changing.kill()
        leftovers += bool(unnamed(api, bot_id))
        # The manager may still carry out what it was sent.
        wait_until(cleared, "nothing is left")
        names = [each.name for each in secrets.list_secrets(bot_id)]
        assert len(names) in (0, 20)
        if rows(api, bot_id):
            assert len(names) == len(secrets.references(bot_id))
    assert leftovers > 0, "no change was under way when the service was killed"


def test_services_that_change_one_bot_at_once_lose_none_of_their_secrets(
    session_bed: SwarmBed, api: docker.APIClient, bot_id: str
) -> None:
    def change(number: int) -> None:
        own = SwarmSecrets(SwarmClient(session_bed.nodes[0].docker_url, timeout_seconds=30), USER)
        for round_ in range(5):
            own.put_secrets(bot_id, {f"S{number}": str(round_).encode()})
            own.remove_leftovers()
            assert f"S{number}" in {each.name for each in own.list_secrets(bot_id)}
            own.references(bot_id)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(change, range(4)))
    last = SwarmSecrets(SwarmClient(session_bed.nodes[0].docker_url, timeout_seconds=30), USER)
    last.remove_leftovers()
    assert ["S0", "S1", "S2", "S3"] == [each.name for each in last.list_secrets(bot_id)]
    assert set() == unnamed(api, bot_id)
