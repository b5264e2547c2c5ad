"""The service as the systemd unit runs it: a user of its own with three capabilities, on a real engine."""

from __future__ import annotations

import configparser
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from botmaker.container.v1 import bot_provisioner_pb2 as pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.bot_locks import LOCK_FILE
from container_manager.maintenance.journal import JOURNAL_DIRECTORY
from container_manager.provisioning.kept_tokens import KEPT_DIRECTORY
from container_manager.provisioning.staging import STAGING_PREFIX
from container_manager_client import connect
from tests.support.bots import NODE_UID, Bots
from tests.support.calls import FOREVER, Calls, fails_with
from tests.support.engine_proxy import EngineProxy
from tests.support.provisioning_calls import delete_secrets, delete_state, listed_secrets, put_secrets
from tests.support.serving import ServerProcess

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become the service's user"),
    pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed"),
]

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "container-manager.service"
UID = 54_400


def of_the_unit(key: str) -> list[str]:
    """The words of a setting of the unit."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNIT)
    return parser["Service"][key].split()


@pytest.fixture
def directory(session_dir: Path) -> Path:
    """The service's own directory, such as /var/lib/botmaker."""
    directory = Path(tempfile.mkdtemp(prefix="u", dir=session_dir))
    for path in (directory, directory / "secrets", directory / "state"):
        path.mkdir(exist_ok=True)
        path.chmod(0o711)
        os.chown(path, UID, UID)
    return directory


@contextmanager
def served(directory: Path, engine_url: str, image: str, capabilities: list[str]) -> Iterator[grpc.Channel]:
    """A channel to the service with these capabilities, ambient and in the bounding set."""
    wanted = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in capabilities)])
    engine_socket = Path(engine_url.removeprefix("unix://"))
    groups = ["--groups", str(engine_socket.stat().st_gid)] if engine_socket.exists() else ["--clear-groups"]
    prefix = [
        *("setpriv", "--reuid", str(UID), "--regid", str(UID), *groups, "--no-new-privs"),
        *("--inh-caps", wanted, "--ambient-caps", wanted, "--bounding-set", wanted),
    ]
    arguments = ["--listen", f"unix://{directory}/run/s.sock", "--docker-host", engine_url, "--default-image", image]
    arguments += ["--secrets-root", str(directory / "secrets"), "--state-root", str(directory / "state")]
    process = ServerProcess(arguments, directory / "log", prefix=prefix)
    try:
        assert process.line, process.log_text()
        with connect(f"unix://{directory}/run/s.sock") as channel:
            yield channel
    finally:
        process.close()


@contextmanager
def _open_to_all(engine_url: str, path: Path) -> Iterator[EngineProxy]:
    with EngineProxy(engine_url, path) as proxy:
        path.chmod(0o666)
        yield proxy


@pytest.fixture
def bots_there(bots: Bots, directory: Path) -> Iterator[Bots]:
    """Bots whose secrets are in the service's directory."""
    there = Bots(bots.engine, directory / "secrets", bots._all_ids)
    yield there
    there.remove_all()


def test_with_the_units_capabilities_a_bot_is_provisioned_rotated_and_removed(
    directory: Path, engine_url: str, test_image: str, bots_there: Bots
) -> None:
    bot_id = bots_there.bare()
    capabilities = of_the_unit("AmbientCapabilities")
    # What a service that was killed has left is removed at the start, also what belongs to the bots' user.
    for root in ("secrets", "state"):
        left = directory / root / f"{STAGING_PREFIX}left"
        (left / "removed").mkdir(parents=True)
        (left / "removed" / "0").touch()
        for path in (left, left / "removed", left / "removed" / "0"):
            os.chown(path, *((UID, UID) if path == left else (NODE_UID, NODE_UID)))
    assert capabilities == of_the_unit("CapabilityBoundingSet")
    with served(directory, engine_url, test_image, capabilities) as channel:
        calls, provisioner = Calls(ContainerManagerStub(channel)), BotProvisionerStub(channel)
        put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"first")
        provisioner.PutFiles(pb.PutFilesRequest(bot_id=bot_id, files={"a/b": b"b"}))
        calls.run(bot_id, *FOREVER)
        container = bots_there.engine.containers.get(f"botmaker-{bot_id}")
        # What the bot makes is for the bot's user alone, or for nobody.
        script = "cd /home/node/.openclaw && mkdir -m 0 own && mkdir -m 1777 sticky && touch sticky/x && chmod 0 a"
        assert (0, b"") == container.exec_run(["sh", "-c", script], user=str(NODE_UID))
        put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"second")
        provisioner.PutFiles(pb.PutFilesRequest(bot_id=bot_id, files={"a/b": b"new"}))
        assert {"GATEWAY_TOKEN": 6} == listed_secrets(provisioner, bot_id)
        assert (0, b"second") == container.exec_run(["cat", "/run/secrets/GATEWAY_TOKEN"], user=str(NODE_UID))
        calls.remove(bot_id, grace=0)
        delete_secrets(provisioner, bot_id)
        delete_state(provisioner, bot_id)
    left = {path for root in ("secrets", "state") for path in (directory / root).rglob("*")}
    journal = (JOURNAL_DIRECTORY, f"{JOURNAL_DIRECTORY}/lock", f"{JOURNAL_DIRECTORY}/identity")
    kept = (KEPT_DIRECTORY, *journal, LOCK_FILE)
    assert set() == left - {directory / "secrets" / name for name in kept}


@pytest.mark.parametrize("missing", ["CAP_CHOWN", "CAP_DAC_OVERRIDE"])
def test_without_one_of_them_the_refusal_says_why_and_no_half_file_is_left(
    directory: Path, engine_url: str, test_image: str, bots_there: Bots, missing: str
) -> None:
    bot_id = bots_there.bare()
    capabilities = [name for name in of_the_unit("AmbientCapabilities") if name != missing]
    # Without the second one, root's directories are closed, and the test's engine may be in one.
    with (
        _open_to_all(engine_url, directory / "engine.sock") as engine,
        served(directory, engine.url, test_image, capabilities) as channel,
    ):
        provisioner = BotProvisionerStub(channel)
        with fails_with("FAILED_PRECONDITION", "SECRETS_UNAVAILABLE") as caught:
            put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"first")
            put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"second")
    assert ("needs CAP_CHOWN" if missing == "CAP_CHOWN" else "Permission denied") in caught[0].message
    assert [] == [path for path in (directory / "secrets").iterdir() if path.name.startswith(STAGING_PREFIX)]


def test_without_the_third_one_what_a_bot_keeps_in_a_sticky_directory_cannot_be_removed(
    directory: Path, engine_url: str, test_image: str, bots_there: Bots
) -> None:
    bot_id = bots_there.bare()
    sticky = directory / "state" / bot_id / "sticky"
    capabilities = [name for name in of_the_unit("AmbientCapabilities") if name != "CAP_FOWNER"]
    with served(directory, engine_url, test_image, capabilities) as channel:
        provisioner = BotProvisionerStub(channel)
        put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"first")
        provisioner.PutFiles(pb.PutFilesRequest(bot_id=bot_id, files={"sticky/x": b"x"}))
        # As the bot itself could do it.
        sticky.chmod(0o1777)
        with fails_with("FAILED_PRECONDITION", "STATE_UNAVAILABLE") as caught:
            delete_state(provisioner, bot_id)
    assert "Operation not permitted" in caught[0].message
