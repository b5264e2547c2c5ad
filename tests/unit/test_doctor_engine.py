"""The doctor's findings about an engine: each problem has a verdict and a remedy."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from container_manager.bot_directories import BotUser, RootDirectory
from container_manager.config import BackendConfig, ServerConfig
from container_manager.doctor import Finding, Verdict, diagnose
from container_manager.doctor.engine_checks import check_engine
from container_manager.model import BotNetwork, PullPolicy
from container_manager.provisioning.host_secrets import HostSecrets
from tests.support.fake_engine import FakeEngine, Hang, Json, error
from tests.unit.documents import BOT, row

VERSION = {"Version": "28.5.2", "ApiVersion": "1.51"}


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with FakeEngine() as engine:
        engine.on("GET", "/version", Json(VERSION))
        engine.on("GET", "/info", Json(info()))
        engine.on("GET", "/images/*/json", Json({"Size": 5_000_000}))
        yield engine


def info(**fields: Any) -> dict[str, Any]:
    moment = fields.pop("moment", datetime.now(UTC))
    return {"Driver": "overlay2", "SystemTime": moment.isoformat(), "DockerRootDir": "/", **fields}


def check(docker_host: str, **config: Any) -> dict[str, Finding]:
    config = {"secrets_root": RootDirectory(Path("/"), Path("/")), **config}
    found = asyncio.run(check_engine(BackendConfig(docker_host=docker_host, **config))).findings
    for finding in found:
        assert (finding.verdict is not Verdict.OK) == bool(finding.remedy), "a remedy exactly where one is needed"
    return {finding.name: finding for finding in found}


def test_an_engine_in_order_is_ok_in_every_point_but_what_the_disk_says(engine: FakeEngine) -> None:
    found = check(engine.url)
    names = ["engine", "API version", "storage driver", "users", "default image", "names", "clock", "engine's disk"]
    assert names == list(found)
    assert {Verdict.OK} == {finding.verdict for name, finding in found.items() if name != "engine's disk"}
    assert "28.5.2" in found["engine"].detail
    assert "5.0 MB" in found["default image"].detail


def test_no_engine_is_failed_and_the_only_finding(tmp_path: Path) -> None:
    found = check(f"unix://{tmp_path}/none.sock")
    assert ["engine"] == list(found)
    assert Verdict.FAILED is found["engine"].verdict
    assert "--docker-host" in found["engine"].remedy


def test_an_engine_that_hangs_is_not_to_be_started(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("container_manager.doctor.engine_checks._TIMEOUT_SECONDS", 0.2)
    engine.on("GET", "/info", Hang())
    found = check(engine.url)
    assert ["engine"] == list(found)
    assert Verdict.FAILED is found["engine"].verdict
    assert "the engine is there and hangs" in found["engine"].remedy


def test_an_engine_that_refuses_this_process_is_failed_with_the_group_as_the_remedy(engine: FakeEngine) -> None:
    engine.on("GET", "/info", error(403, "no"))
    found = check(engine.url)
    assert ["engine"] == list(found)
    assert "group" in found["engine"].remedy


def test_an_engine_that_answers_with_an_error_is_failed_with_its_words(engine: FakeEngine) -> None:
    engine.on("GET", "/info", error(500, "out of order"))
    assert "out of order" in check(engine.url)["engine"].detail


@pytest.mark.parametrize(
    ("version", "verdict"),
    [("1.41", Verdict.OK), ("1.100", Verdict.OK), ("2.0", Verdict.OK), ("1.40", Verdict.FAILED)],
)
def test_an_api_older_than_docker_20_10_is_failed(engine: FakeEngine, version: str, verdict: Verdict) -> None:
    engine.on("GET", "/version", Json({**VERSION, "ApiVersion": version}))
    assert verdict is check(engine.url)["API version"].verdict


def test_a_storage_driver_that_copies_images_is_a_warning(engine: FakeEngine) -> None:
    engine.on("GET", "/info", Json(info(Driver="vfs")))
    assert Verdict.WARNING is check(engine.url)["storage driver"].verdict


REMAPPED = info(SecurityOptions=["name=userns"], DockerRootDir="/var/lib/docker/100000.200000")
OWNERS = pytest.mark.parametrize(
    ("owner", "verdict"),
    [
        (BotUser(101_000, 201_000), Verdict.OK),
        (BotUser(100_000, 200_000), Verdict.WARNING),
        (BotUser(1000, 1000), Verdict.FAILED),
    ],
)
ONLY_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.mark.parametrize("user", [BotUser(1000, 1000), BotUser(101_000, 1000), BotUser(101_000, 201_000)])
def test_an_engine_that_remaps_users_is_named_with_the_bots_user_on_this_host(
    engine: FakeEngine, user: BotUser
) -> None:
    engine.on("GET", "/info", Json(REMAPPED))
    found = check(engine.url, bot_user=user)["users"]
    assert (Verdict.OK, True) == (found.verdict, found.detail.endswith(" is 101000:201000 of this host"))


@ONLY_ROOT
@OWNERS
def test_secrets_that_only_another_user_of_the_bot_can_read_are_a_warning(
    engine: FakeEngine, tmp_path: Path, owner: BotUser, verdict: Verdict
) -> None:
    """The image may have that user."""
    engine.on("GET", "/info", Json(REMAPPED))
    secrets = tmp_path / BOT
    secrets.mkdir(mode=0o700)
    (secrets / "TOKEN").touch(mode=0o600)
    for path in (secrets, secrets / "TOKEN"):
        os.chown(path, *owner)
    found = check(engine.url, secrets_root=RootDirectory(tmp_path, tmp_path))["users"]
    assert verdict is found.verdict
    assert verdict is Verdict.OK or (str(secrets) in found.detail and "chown -R 101000:201000" in found.remedy)


@ONLY_ROOT
@OWNERS
def test_a_state_from_before_the_engine_remapped_users_is_found(
    engine: FakeEngine, tmp_path: Path, owner: BotUser, verdict: Verdict
) -> None:
    """The bot has no secrets yet."""
    engine.on("GET", "/info", Json(REMAPPED))
    secrets, state = tmp_path / "secrets", tmp_path / "state" / BOT
    secrets.mkdir()
    state.mkdir(mode=0o700, parents=True)
    os.chown(state, *owner)
    roots = RootDirectory(secrets, secrets), RootDirectory(state.parent, state.parent)
    found = check(engine.url, secrets_root=roots[0], state_root=roots[1])["users"]
    assert verdict is found.verdict
    assert verdict is Verdict.OK or (str(state) in found.detail and "chown -R 101000:201000" in found.remedy)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize(
    ("remapped", "owner"),
    [(True, BotUser(101_000, 201_000)), (True, BotUser(1000, 1000)), (False, BotUser(1000, 1000))],
)
def test_the_doctor_wants_the_owner_that_the_service_gives_secrets(
    engine: FakeEngine, tmp_path: Path, remapped: bool, owner: BotUser
) -> None:
    namespace = {"SecurityOptions": ["name=userns"], "DockerRootDir": "/var/lib/docker/100000.200000"}
    engine.on("GET", "/info", Json(info(**(namespace if remapped else {}))))
    root = RootDirectory(tmp_path / "secrets", tmp_path / "secrets")
    root.path.mkdir(mode=0o711)
    HostSecrets(root, owner).put_secrets(BOT, {"TOKEN": b"1"})
    findings = asyncio.run(diagnose(ServerConfig(BackendConfig(root, docker_host=engine.url), ())))
    assert 1 == len(engine.seen("GET", "/info"))
    remedies = [finding.remedy for finding in findings if finding.name == "bots' secrets"]
    if remapped and owner.uid == 1000:
        assert remedies
        assert all(remedy.startswith("chown -R 101000:201000 ") for remedy in remedies)
    else:
        assert [] == remedies


def test_a_rootless_engine_is_a_warning_about_the_bots_user(engine: FakeEngine) -> None:
    engine.on("GET", "/info", Json(info(SecurityOptions=["name=seccomp,profile=builtin", "name=rootless"])))
    found = check(engine.url)["users"]
    assert (Verdict.WARNING, True) == (found.verdict, "--bot-user" in found.remedy)


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({"InitBinary": "docker-init", "InitCommit": {"ID": "de40ad0", "Expected": "de40ad0"}}, Verdict.OK),
        ({"InitBinary": "docker-init", "InitCommit": {"ID": "", "Expected": ""}}, Verdict.OK),
        ({"InitBinary": "docker-init", "InitCommit": {"ID": "N/A", "Expected": "N/A"}}, Verdict.FAILED),
        ({"InitBinary": "/opt/init", "InitCommit": {"ID": "N/A", "Expected": ""}}, Verdict.WARNING),
        ({"InitBinary": "", "InitCommit": {"ID": "", "Expected": ""}}, None),
        ({}, None),
    ],
    ids=["Docker", "Debian", "absent", "another one", "Podman", "unknown"],
)
def test_an_init_process_that_the_engine_cannot_run_is_failed(
    engine: FakeEngine, fields: dict[str, Any], verdict: Verdict | None
) -> None:
    engine.on("GET", "/info", Json(info(**fields)))
    finding = check(engine.url).get("init process")
    assert verdict is (finding and finding.verdict)


def test_an_absent_default_image_is_a_warning_and_failed_where_nothing_is_pulled(engine: FakeEngine) -> None:
    engine.on("GET", "/images/*/json", error(404, "No such image"))
    assert Verdict.WARNING is check(engine.url)["default image"].verdict
    assert Verdict.FAILED is check(engine.url, pull_policy=PullPolicy.NEVER)["default image"].verdict


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["botmaker-anna"], "1 container, botmaker-anna, has"),
        (["botmaker-anna", "botmaker-zoe"], "2 containers, such as botmaker-anna, have"),
    ],
)
def test_containers_that_botmaker_named_are_counted_with_the_command_that_renames_them(
    engine: FakeEngine, names: list[str], said: str
) -> None:
    rows = [row(f"{number:064x}", Names=[f"/{name}"], Created=number) for number, name in enumerate(names)]
    own = row("f" * 64)
    unlabelled = row("e" * 64, Names=["/x"], Labels={"botmaker.managed": "true"})
    engine.on("GET", "/containers/json", Json([own, unlabelled, *rows]))
    found = check(engine.url)["names"]
    assert (Verdict.WARNING, True) == (found.verdict, found.detail.startswith(said))
    assert "container-manager adopt" in found.remedy
    engine.on("GET", "/containers/json", Json([own, unlabelled]))
    assert Verdict.OK is check(engine.url)["names"].verdict


@pytest.mark.parametrize(
    ("seconds", "verdict"),
    [(0, Verdict.OK), (-3.5, Verdict.WARNING), (3.5, Verdict.WARNING), (-60, Verdict.FAILED), (60, Verdict.FAILED)],
)
def test_a_clock_that_is_off_is_a_warning_and_failed_beyond_what_events_bear(
    engine: FakeEngine, seconds: float, verdict: Verdict
) -> None:
    engine.on("GET", "/info", lambda _: Json(info(moment=datetime.now(UTC) + timedelta(seconds=seconds))))
    assert verdict is check(engine.url)["clock"].verdict


def test_an_engine_that_does_not_tell_its_time_is_a_warning(engine: FakeEngine) -> None:
    engine.on("GET", "/info", Json({}))
    assert Verdict.WARNING is check(engine.url)["clock"].verdict


def test_a_data_root_that_is_not_visible_from_here_is_said_to_be_so(engine: FakeEngine) -> None:
    engine.on("GET", "/info", Json(info(DockerRootDir="/nowhere/at/all")))
    assert "not visible" in check(engine.url)["engine's disk"].detail


@pytest.mark.parametrize(
    ("taken", "verdict", "detail"),
    [("10.3.0.0/25", Verdict.OK, "8 of 16 subnets"), ("10.3.0.0/24", Verdict.FAILED, "0 of 16 subnets")],
)
def test_where_bots_have_their_own_networks_the_free_subnets_are_counted(
    engine: FakeEngine, taken: str, verdict: Verdict, detail: str
) -> None:
    engine.on("GET", "/networks", Json([{"IPAM": {"Config": [{"Subnet": taken}]}}]))
    pool = IPv4Network("10.3.0.0/24")
    found = check(engine.url, bot_network=BotNetwork.ISOLATED, bot_network_pool=pool)["bots' networks"]
    assert verdict is found.verdict
    assert detail in found.detail
