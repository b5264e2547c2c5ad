"""BotProvisioner on a real engine: what is put reaches the bot, also from a caller with the socket's group alone."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from botmaker.container.v1 import bot_provisioner_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig, ServerConfig
from container_manager_client import connect
from tests.support.bots import NODE_UID, Bots
from tests.support.calls import FOREVER, Calls
from tests.support.child_environment import child_environment
from tests.support.provisioning_calls import delete_secrets, delete_state, put_secrets
from tests.support.provisioning_contract import ProvisioningContract
from tests.support.serving import running_server

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to the bots' user")

UID = 65_534
MEMBERS = 54_321
# Everything is imported before the process becomes the other user, who may not be able to read it.
CALLER = """
import json, os, sys
import grpc
from botmaker.container.v1 import bot_provisioner_pb2 as provisioner_pb, container_manager_pb2 as pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager_client import connect
target, bot_id, uid, gid = json.loads(sys.argv[1])
os.setgroups([])
os.setgid(gid)
os.setuid(uid)
with connect(target) as channel:
    manager, provisioner = ContainerManagerStub(channel), BotProvisionerStub(channel)
    provisioner.PutSecrets(provisioner_pb.PutSecretsRequest(bot_id=bot_id, secrets={"GATEWAY_TOKEN": b"first"}))
    provisioner.PutFiles(provisioner_pb.PutFilesRequest(bot_id=bot_id, files={"workspace/a.md": b"a"}))
    config = pb.ContainerConfig(command=["sleep", "100000"])
    manager.CreateContainer(pb.CreateContainerRequest(bot_id=bot_id, config=config))
    manager.StartContainer(pb.StartContainerRequest(bot_id=bot_id))
    provisioner.PutSecrets(provisioner_pb.PutSecretsRequest(bot_id=bot_id, secrets={"GATEWAY_TOKEN": b"second"}))
    print("put", flush=True)
    sys.stdin.readline()
    manager.RemoveContainer(pb.RemoveContainerRequest(bot_id=bot_id, grace_period={"seconds": 0}))
    provisioner.DeleteSecrets(provisioner_pb.DeleteSecretsRequest(bot_id=bot_id))
    provisioner.DeleteState(provisioner_pb.DeleteStateRequest(bot_id=bot_id))
    print("gone", flush=True)
"""


@pytest.fixture(scope="module")
def state_root(session_dir: Path) -> Path:
    """The server's state root."""
    path = session_dir / "provisioned-state"
    path.mkdir(mode=0o755)
    return path


@pytest.fixture(scope="module")
def provisioned_target(service_config: BackendConfig, state_root: Path, session_dir: Path) -> Iterator[str]:
    """A server with a state root, whose socket belongs to a group."""
    service = replace(service_config, state_root=RootDirectory(state_root, state_root))
    address = f"unix://{session_dir}/provisioned/s.sock"
    with running_server(ServerConfig(service=service, listen=(address,), socket_group=str(MEMBERS))) as addresses:
        yield addresses[0]


@pytest.fixture(scope="module")
def channel(provisioned_target: str) -> Iterator[grpc.Channel]:
    with connect(provisioned_target) as channel:
        yield channel


@pytest.fixture(scope="module")
def calls(channel: grpc.Channel) -> Calls:
    """The RPCs by bot id."""
    return Calls(ContainerManagerStub(channel))


@pytest.fixture(scope="module")
def provisioner(channel: grpc.Channel) -> BotProvisionerStub:
    """The provisioner's generated stub."""
    return BotProvisionerStub(channel)


class TestProvisioning(ProvisioningContract):
    """On one Docker Engine."""


def run_in(bots: Bots, bot_id: str, *command: str, user: int = NODE_UID) -> tuple[int, str]:
    """Exit code and output of a command inside the bot's container, as the bots' user."""
    done = bots.engine.containers.get(f"botmaker-{bot_id}").exec_run(list(command), user=str(user))
    return done.exit_code, done.output.decode()


def test_conformance_18_a_bot_reads_its_secrets_and_a_rotated_one_while_it_runs(
    calls: Calls, provisioner: BotProvisionerStub, bots: Bots
) -> None:
    bot_id = bots.bare()
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"first", OTHER=b"kept")
    calls.run(bot_id, *FOREVER)
    assert (0, "first") == run_in(bots, bot_id, "cat", "/run/secrets/GATEWAY_TOKEN")
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"second")
    assert (0, "second") == run_in(bots, bot_id, "cat", "/run/secrets/GATEWAY_TOKEN")
    put_secrets(provisioner, bot_id, replace_all=True, NEW=b"only")
    assert (0, "NEW\n") == run_in(bots, bot_id, "ls", "-A", "/run/secrets")
    assert (0, "1000:1000 700\n") == run_in(bots, bot_id, "stat", "-c", "%u:%g %a", "/run/secrets")
    assert (0, "1000:1000 600\n") == run_in(bots, bot_id, "stat", "-c", "%u:%g %a", "/run/secrets/NEW")
    exit_code, _ = run_in(bots, bot_id, "touch", "/run/secrets/mine")
    assert exit_code != 0
    exit_code, _ = run_in(bots, bot_id, "cat", "/run/secrets/NEW", user=4321)
    assert exit_code != 0, "another user of the container reads nothing"


def test_a_bot_owns_the_files_that_were_put_into_its_state(
    calls: Calls, provisioner: BotProvisionerStub, bots: Bots
) -> None:
    bot_id = bots.bare()
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"x")
    provisioner.PutFiles(pb.PutFilesRequest(bot_id=bot_id, files={"workspace/deep/a.md": b"before"}))
    calls.run(bot_id, *FOREVER)
    path = "/home/node/.openclaw/workspace/deep/a.md"
    assert (0, "before") == run_in(bots, bot_id, "cat", path)
    provisioner.PutFiles(pb.PutFilesRequest(bot_id=bot_id, files={"workspace/deep/a.md": b"while it runs"}))
    assert (0, "while it runs") == run_in(bots, bot_id, "cat", path)
    assert (0, "") == run_in(bots, bot_id, "sh", "-c", f"echo more >>{path} && rm -r /home/node/.openclaw/workspace")
    calls.remove(bot_id, grace=0)
    delete_state(provisioner, bot_id)
    delete_secrets(provisioner, bot_id)


def test_a_caller_that_chooses_image_command_or_files_can_make_a_bot_print_its_own_secrets(
    calls: Calls, provisioner: BotProvisionerStub, channel: grpc.Channel, bots: Bots, test_image: str
) -> None:
    lines = f"FROM {test_image}\nUSER {NODE_UID}\n"
    image, _ = bots.engine.images.build(fileobj=io.BytesIO(lines.encode()), rm=True, forcerm=True)
    bot_id, other = bots.bare(), bots.bare()
    try:
        put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"of this bot")
        put_secrets(provisioner, other, GATEWAY_TOKEN=b"of another bot")
        script = b"cat /run/secrets/* /run/secrets/../*/GATEWAY_TOKEN"
        provisioner.PutFiles(pb.PutFilesRequest(bot_id=bot_id, files={"run.sh": script}))
        calls.run(bot_id, "sh", "/home/node/.openclaw/run.sh", image=image.id)
        bots.wait_for_log(bot_id, b"of this bot")
        stream = ContainerObserverStub(channel).StreamLogs(observer_pb.StreamLogsRequest(bot_id=bot_id))
        printed = b"".join(message.entry.line for message in stream)
        calls.remove(bot_id, grace=0)
    finally:
        bots.engine.images.remove(image.id, force=True)
    assert b"of this bot" in printed
    assert b"of another bot" not in printed


def test_a_caller_whose_only_right_is_the_sockets_group_provisions_creates_starts_rotates_and_removes_a_bot(
    provisioned_target: str, bots: Bots, state_root: Path
) -> None:
    bot_id = bots.bare()
    argument = json.dumps([provisioned_target, bot_id, UID, MEMBERS])
    with subprocess.Popen(
        [sys.executable, "-c", CALLER, argument],
        env=child_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as caller:
        assert caller.stdin is not None
        assert caller.stdout is not None
        assert "put\n" == caller.stdout.readline()
        assert (0, "second") == run_in(bots, bot_id, "cat", "/run/secrets/GATEWAY_TOKEN")
        assert (0, "a") == run_in(bots, bot_id, "cat", "/home/node/.openclaw/workspace/a.md")
        caller.stdin.write("\n")
        caller.stdin.flush()
        assert "gone\n" == caller.stdout.readline()
    assert [] == bots.containers()
    assert not (bots.secrets_root / bot_id).exists()
    assert not (state_root / bot_id).exists()
