"""Who may open the unix socket, tried by processes of other users."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from container_manager_client import connect
from tests.rpc.conftest import ServeOn
from tests.support.child_environment import child_environment

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

UID = 65_534
STRANGERS = 65_534
MEMBERS = 54_321
# Everything is imported before the process becomes the other user, who may not be able to read it.
CALLER = """
import json, os, sys
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from container_manager_client import connect, error_info
target, uid, gid, groups = json.loads(sys.argv[1])
os.setgroups(groups)
os.setgid(gid)
os.setuid(uid)
with connect(target) as channel:
    try:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
        print("OK")
    except grpc.RpcError as exc:
        print(error_info(exc).code.name, error_info(exc).message)
"""


def called_by(target: str, gid: int, groups: Sequence[int] = ()) -> str:
    """What a process of another user hears that has this group, and these further ones."""
    command = [sys.executable, "-c", CALLER, json.dumps([target, UID, gid, list(groups)])]
    done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def refused(heard: str) -> bool:
    return heard.startswith("UNAVAILABLE") and "Permission denied" in heard


def test_other_users_are_refused_by_the_directory(serve_on: ServeOn, session_dir: Path) -> None:
    with serve_on(f"unix://{session_dir}/others/s.sock") as addresses:
        assert refused(called_by(addresses[0], STRANGERS))


def test_other_users_are_refused_by_the_socket_itself(serve_on: ServeOn, session_dir: Path) -> None:
    (session_dir / "open").mkdir(0o755)
    with serve_on(f"unix://{session_dir}/open/s.sock") as addresses:
        assert refused(called_by(addresses[0], STRANGERS))


@pytest.mark.parametrize(("gid", "groups"), [(MEMBERS, ()), (STRANGERS, (MEMBERS,))], ids=["group", "further group"])
def test_a_user_of_the_sockets_group_is_served(
    serve_on: ServeOn, session_dir: Path, gid: int, groups: Sequence[int]
) -> None:
    with serve_on(f"unix://{session_dir}/members{len(groups)}/s.sock", socket_group=str(MEMBERS)) as addresses:
        assert "OK" == called_by(addresses[0], gid, groups)
        assert refused(called_by(addresses[0], STRANGERS))


def test_a_mode_without_the_group_keeps_the_group_out(serve_on: ServeOn, session_dir: Path) -> None:
    (session_dir / "owner").mkdir(0o755)
    target = f"unix://{session_dir}/owner/s.sock"
    with serve_on(target, socket_mode=0o600, socket_group=str(MEMBERS)):
        assert refused(called_by(target, MEMBERS))
        with connect(target) as channel:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
