"""The text of the deployed images' Dockerfiles and of the compose file; needs no engine.

``tests/engine/test_compose.py`` builds and runs them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from container_manager.config import ServerConfig
from dev.python_base import OFFLINE_IMAGE, pinned_image
from tests.support.pip_arguments import pip_arguments

TOP = Path(__file__).parents[2]
DOCKERFILES = {"service": TOP / "deploy" / "Dockerfile", "api-tier": TOP / "examples" / "api_tier" / "Dockerfile"}
COMPOSE = TOP / "deploy" / "compose.yaml"
SETTINGS = TOP / "deploy" / ".env.example"
DOCKER_SOCKET = "/var/run/docker.sock"
# The parts of this project that the API tier's image may contain.
CLIENT = {
    "client/botmaker",
    "client/container_manager_client",
    *(str(path.relative_to(TOP)) for path in (TOP / "examples" / "api_tier").glob("*.py")),
}


class Instruction(NamedTuple):
    """One instruction of a Dockerfile, with its continuation lines."""

    stage: int
    name: str
    rest: str


def instructions(image: str) -> list[Instruction]:
    """A Dockerfile's instructions; those before the first FROM are in stage 0."""
    lines = [line for line in DOCKERFILES[image].read_text().splitlines() if not line.lstrip().startswith("#")]
    stage, found = 0, []
    for logical in "\n".join(lines).replace("\\\n", " ").splitlines():
        if logical.strip():
            name, _, rest = logical.partition(" ")
            stage += name == "FROM"
            found.append(Instruction(stage, name, " ".join(rest.split())))
    return found


def only(image: str, name: str) -> str:
    """The arguments of the image's only instruction with this name."""
    (rest,) = [each.rest for each in instructions(image) if each.name == name]
    return rest


both = pytest.mark.parametrize("image", DOCKERFILES)


@both
def test_the_classic_builder_knows_every_instruction(image: str) -> None:
    """No mounts in RUN, no here-documents, no links or modes in COPY, no other front end."""
    assert "# syntax" not in DOCKERFILES[image].read_text()
    for each in instructions(image):
        assert not re.search(r"<<|^--(?!from=|chown=|interval=)", each.rest), each


@both
def test_both_stages_are_of_one_base_that_can_be_exchanged_and_is_pinned_to_the_patch(image: str) -> None:
    stages = [each.rest for each in instructions(image) if each.name == "FROM"]
    assert ["${BASE_IMAGE} AS build", "${BASE_IMAGE}"] == stages
    assert Instruction(0, "ARG", f"BASE_IMAGE={pinned_image()}") == instructions(image)[0]
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", pinned_image())


@both
def test_it_runs_as_a_user_by_number_that_is_not_root(image: str) -> None:
    uid, gid = only(image, "USER").split(":")
    made = " ".join(each.rest for each in instructions(image) if (each.stage, each.name) == (2, "RUN"))
    assert int(uid) >= 10_000, "no user of the host's, and not the bots' 1000"
    assert f"--uid {uid} " in made
    assert f"--gid {gid} " in made


@both
def test_it_is_process_1_and_ends_by_sigterm(image: str) -> None:
    assert isinstance(json.loads(only(image, "ENTRYPOINT")), list), "a shell in front would keep the signal to itself"
    assert "SIGTERM" == only(image, "STOPSIGNAL")


def test_the_services_health_is_what_it_says_itself() -> None:
    command = only("service", "HEALTHCHECK").partition("CMD ")[2]
    assert ["container-manager", "health"] == json.loads(command)
    assert ["container-manager"] == json.loads(only("service", "ENTRYPOINT"))


@both
def test_all_that_is_installed_is_locked_with_hashes_and_in_the_first_stage(image: str) -> None:
    runs = [each for each in instructions(image) if each.name == "RUN"]
    installing = [each for each in runs if "install -" in each.rest and "pip" in each.rest]
    assert {1} == {each.stage for each in installing}
    locks = [
        TOP / "requirements" / Path(lock).name for each in installing for lock in re.findall(r"\S+\.txt", each.rest)
    ]
    assert locks
    assert [] == [lock for lock in locks if not lock.is_file()]
    locked = [each.rest for each in installing if ".txt" in each.rest]
    assert all("--require-hashes" in rest and "--only-binary :all:" in rest for rest in locked)
    # The stage builds the wheel itself, from this project only.
    assert all("--no-index" in each.rest for each in installing if ".txt" not in each.rest)


@both
def test_nothing_of_the_build_machines_package_index_reaches_the_image(image: str) -> None:
    arguments = [each for each in instructions(image) if each.name == "ARG" and each.stage]
    assert {(1, name) for name in pip_variables()} == {(each.stage, each.rest) for each in arguments}
    assert not [each for each in instructions(image) if each.stage == 2 and "PIP_" in each.rest]


@both
def test_what_is_copied_is_there_and_let_through(image: str) -> None:
    ignored = (TOP / ".dockerignore").read_text().splitlines()
    allowed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert "*" in ignored
    for source in copied(image):
        assert (TOP / source).exists(), source
        assert [part for part in allowed if fnmatch(source, part) or source.startswith(f"{part}/")], source


def test_the_api_tiers_image_has_the_client_and_nothing_of_the_service() -> None:
    assert CLIENT == copied("api-tier", stage=2)
    assert not re.search(
        r"^(docker|grpcio-health|aiohttp)", (TOP / "requirements" / "api-tier.txt").read_text(), re.MULTILINE
    )


def copied(image: str, stage: int | None = None) -> set[str]:
    """The sources that an image, or one stage, copies from this checkout."""
    copies = [each for each in instructions(image) if each.name == "COPY" and not each.rest.startswith("--from")]
    chosen = [each.rest.split() for each in copies if stage in (None, each.stage)]
    return {source for words in chosen for source in words[:-1]}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The compose file's services."""
    return yaml.safe_load(COMPOSE.read_text())["services"]


def mounts(service: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A service's mounts by their target in the container."""
    return {mount["target"]: mount for mount in service["volumes"]}


def test_each_container_is_hardened(services: dict[str, Any]) -> None:
    assert {"container-manager", "api-tier", "metrics"} == set(services)
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["init"] is True, name
        assert ["ALL"] == service["cap_drop"], name
        assert ["no-new-privileges:true"] == service["security_opt"], name
        assert not {"privileged", "pid", "ipc", "devices", "userns_mode"} & set(service), name
    # What writing for the bots' user takes, and nothing else.
    service, tier = services["container-manager"], services["api-tier"]
    assert ("0:10001", ["CHOWN", "DAC_OVERRIDE", "FOWNER"]) == (service["user"], service["cap_add"])
    assert set() == {"cap_add", "user"} & set(tier)
    assert ("65534:65534", False) == (services["metrics"]["user"], "cap_add" in services["metrics"])


def test_only_the_service_has_the_docker_socket_and_the_roots(services: dict[str, Any]) -> None:
    """The service has no more access to them than it needs."""
    assert ["/run/botmaker"] == list(mounts(services["api-tier"]))
    assert ["/run/botmaker-metrics"] == list(mounts(services["metrics"])), "and not the socket that controls bots"
    held = mounts(services["container-manager"])
    writable = {target for target, mount in held.items() if not mount.get("read_only")}
    sockets, roots = (
        {"/run/botmaker", "/run/botmaker-metrics"},
        {"/var/lib/botmaker/secrets", "/var/lib/botmaker/state"},
    )
    assert {DOCKER_SOCKET} | sockets | roots == writable
    assert writable == set(held)


def test_they_share_the_sockets_volume_and_its_group_and_no_network(services: dict[str, Any]) -> None:
    service, tier = services["container-manager"], services["api-tier"]
    assert mounts(service)["/run/botmaker"]["source"] == mounts(tier)["/run/botmaker"]["source"]
    assert [only("service", "USER").split(":")[1]] == tier["group_add"]
    assert "none" == service["network_mode"]
    assert {"condition": "service_healthy"} == tier["depends_on"]["container-manager"]


def test_the_api_is_published_on_loopback_alone(services: dict[str, Any]) -> None:
    assert ["127.0.0.1:${API_PORT:-8000}:8000"] == services["api-tier"]["ports"]
    assert "ports" not in services["container-manager"]


def test_metrics_are_published_on_loopback_by_a_relay_that_is_asked_for(services: dict[str, Any]) -> None:
    assert ["127.0.0.1:${METRICS_PORT:-9464}:9464"] == services["metrics"]["ports"]
    assert ["metrics"] == services["metrics"]["profiles"]
    assert mounts(services["metrics"])["/run/botmaker-metrics"]["read_only"] is True


def test_the_drain_ends_before_composes_patience(services: dict[str, Any]) -> None:
    assert ServerConfig.drain_seconds + 1 < int(services["container-manager"]["stop_grace_period"].removesuffix("s"))


def test_the_engine_is_told_the_hosts_paths_of_what_is_mounted(services: dict[str, Any]) -> None:
    service = services["container-manager"]
    for root in ("secrets", "state"):
        source = mounts(service)[f"/var/lib/botmaker/{root}"]["source"]
        assert source == service["environment"][f"CONTAINER_MANAGER_HOST_{root.upper()}_ROOT"]


def test_every_variable_of_the_service_is_one_of_its_options(services: dict[str, Any]) -> None:
    command = [sys.executable, "-m", "container_manager", "serve", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert set(services["container-manager"]["environment"]) <= set(re.findall(r"CONTAINER_MANAGER_\w+", told))


def test_every_setting_is_in_the_example_with_its_default() -> None:
    used: dict[str, set[str]] = {}
    for name, default in re.findall(r"\$\{(\w+)(?::-([^}]*))?", COMPOSE.read_text()):
        used.setdefault(name, set()).add(default)
    shown = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", SETTINGS.read_text(), re.MULTILINE))
    required = re.findall(r"^([A-Z_]+)=", SETTINGS.read_text(), re.MULTILINE)
    assert required == re.findall(r"\$\{(\w+):\?", COMPOSE.read_text())
    assert {name: {value} for name, value in shown.items() if name not in required} == {
        name: defaults for name, defaults in used.items() if name not in required
    }


def test_the_defaults_are_the_images_of_this_version_on_the_dockerfiles_base() -> None:
    version = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["version"]
    shown = dict(re.findall(r"^#([A-Z_]+)=(.*)$", SETTINGS.read_text(), re.MULTILINE))
    assert [version, version] == [shown[name].rpartition(":")[2] for name in ("SERVICE_IMAGE", "API_TIER_IMAGE")]
    assert pinned_image() == shown["PYTHON_IMAGE"]


def test_the_build_is_told_the_package_index_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """But no directories, which it cannot reach; the environment overrides files."""
    configured = tmp_path / "pip.conf"
    configured.write_text(
        "[global]\nindex-url = https://file.example/simple\ntrusted-host = file.example\n"
        "extra-index-url = file:///srv/simple https://more.example/simple\nfind-links = /srv/wheels\n"
    )
    for name in [*pip_variables(), "PIP_FIND_LINKS"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(configured))
    monkeypatch.setenv("PIP_INDEX_URL", "https://environment.example/simple")
    expected = {
        "PIP_INDEX_URL": "https://environment.example/simple",
        "PIP_EXTRA_INDEX_URL": "https://more.example/simple",
        "PIP_TRUSTED_HOST": "file.example",
    }
    assert expected == pip_arguments(pinned_image())
    assert {"PIP_CERT": "/etc/ssl/certs/ca-certificates.crt", **expected} == pip_arguments(OFFLINE_IMAGE)


def pip_variables() -> set[str]:
    """The settings of pip that a build accepts."""
    return set(re.findall(r"^#(PIP_\w+)=", SETTINGS.read_text(), re.MULTILINE))
