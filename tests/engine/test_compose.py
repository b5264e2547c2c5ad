"""deploy/compose.yaml on the real engine: the service and the example API tier, from freshly built images."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.models.containers import Container

from container_manager import __version__
from dev.debian import MissingEngine
from dev.python_base import make_debian_image
from tests.docs.documents import blocks
from tests.support.bots import GATEWAY_TOKEN, Bots
from tests.support.calls import FOREVER
from tests.support.compose import BUILD_SECONDS, Deployment, LabelledBase, compose_command
from tests.support.scraping import scrape, value
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2 * BUILD_SECONDS),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may say whose the roots are"),
]

SOCAT_IMAGE = "botmaker-test/socat:1"
NewDeployment = Callable[[], Deployment]
SERVICES = ("container-manager", "api-tier")
# Shows that it can read its secret, and appends a line to its state.
SHOWS_AND_KEEPS = (
    "sh",
    "-c",
    "cat /run/secrets/GATEWAY_TOKEN; echo; echo kept >/home/node/.openclaw/line; sleep 100000",
)
CONNECT = """
import socket
socket.socket(socket.AF_UNIX).connect("/run/botmaker/container-manager.sock")
"""
IMPORTABLE = """
import importlib.util
names = "docker requests aiohttp container_manager container_manager_client botmaker".split()
print(*(name for name in names if importlib.util.find_spec(name)))
"""
OF_BUILDING = """
for name in gcc cc g++ make docker dockerd; do command -v $name; done
find / -xdev -path '*/.cache/pip' 2>/dev/null; ls -d /build 2>/dev/null
"""
OF_DOCKER = "find / -xdev -name 'docker*' -not -name docker-init 2>/dev/null"
RIGHTS = "grep -hE '^(Uid|Cap|NoNewPrivs)' /proc/[0-9]*/status 2>/dev/null"


@dataclass(frozen=True)
class Roots:
    """The mapped directories of the host."""

    secrets: Path
    state: Path


@pytest.fixture(scope="module")
def roots(secrets_root: Path, session_dir: Path) -> Roots:
    state = session_dir / "compose-state"
    state.mkdir()
    return Roots(secrets_root, state)


@pytest.fixture(scope="module")
def base(engine: docker.DockerClient, engine_url: str, test_labels: dict[str, str]) -> Iterator[LabelledBase]:
    """The base of the images; all are removed afterwards."""
    (label,) = test_labels.items()
    base = LabelledBase(engine, engine_url, label)
    try:
        yield base
    finally:
        base.remove_all()


@pytest.fixture(scope="module")
def settings(engine_url: str, test_image: str, roots: Roots, base: LabelledBase) -> dict[str, str]:
    """The content of ``.env`` for this engine and this test."""
    if not engine_url.startswith("unix://"):
        pytest.skip("the engine's socket is not on this machine")
    docker_socket = Path(engine_url.removeprefix("unix://"))
    tag = uuid.uuid4().hex[:12]
    return {
        "DOCKER_GID": str(docker_socket.stat().st_gid),
        "DOCKER_SOCKET": str(docker_socket),
        "SECRETS_ROOT": str(roots.secrets),
        "STATE_ROOT": str(roots.state),
        "DEFAULT_IMAGE": test_image,
        "API_PORT": "0",
        "SERVICE_IMAGE": f"botmaker-test/service:{tag}",
        "API_TIER_IMAGE": f"botmaker-test/api-tier:{tag}",
        "PYTHON_IMAGE": base.tag,
        "SOCAT_IMAGE": SOCAT_IMAGE,
        "METRICS_PORT": "0",
        **base.pip_arguments,
    }


@pytest.fixture(scope="module")
def new_deployment(
    engine: docker.DockerClient, engine_url: str, settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NewDeployment]:
    """Creates compose projects; their containers and images are removed afterwards."""
    try:
        command = compose_command()
    except MissingEngine as exc:
        pytest.skip(str(exc))
    made: list[Deployment] = []

    def make() -> Deployment:
        name = f"cmtest{uuid.uuid4().hex[:8]}"
        made.append(Deployment(command, engine_url, settings, tmp_path_factory.mktemp(name) / "env", name))
        return made[-1]

    try:
        make()("build", timeout_seconds=BUILD_SECONDS)
        yield make
    finally:
        for deployment in made:
            if deployment.left(engine):
                deployment("down", "--volumes", "--remove-orphans")


@pytest.fixture(scope="module")
def deployment(new_deployment: NewDeployment) -> Deployment:
    """A running project."""
    deployment = new_deployment()
    deployment("up", "--detach")
    return deployment


@pytest.fixture
def bot_id(bots: Bots, roots: Roots) -> str:
    """A bot with the directories that its provisioning creates."""
    bot_id = bots.new()
    (roots.state / bot_id).mkdir()
    # The small image's user is a root without capabilities, and the service gives an empty directory to the bots' user.
    (roots.state / bot_id).chmod(0o777)
    return bot_id


def printed(container: Container, script: str) -> str:
    """The output of a shell command in the container."""
    return str(container.exec_run(["sh", "-c", script]).output.decode())


def test_the_service_becomes_healthy_by_its_own_command(engine: docker.DockerClient, deployment: Deployment) -> None:
    service = deployment.container(engine, "container-manager")

    def health() -> dict[str, Any]:
        told: dict[str, Any] = engine.api.inspect_container(service.id)["State"]["Health"]
        return told

    wait_until(lambda: health()["Status"] == "healthy", "it is healthy", 120)
    said = {(each["ExitCode"], each["Output"]) for each in health()["Log"]}
    assert (0, "unix:///run/botmaker/container-manager.sock is serving\n") in said
    elsewhere = service.exec_run(["container-manager", "health", "--address", "unix:///run/botmaker/absent.sock"])
    assert 1 == elsewhere.exit_code


def test_a_bots_life_over_http_with_its_secrets_and_state(
    engine: docker.DockerClient, deployment: Deployment, bots: Bots, bot_id: str, roots: Roots
) -> None:
    url = f"/bots/{bot_id}"
    with deployment.http() as http:
        wait_until(lambda: http.get("/bots").status_code == 200, "the API tier serves", 60)
        created = http.post(url, json={"command": SHOWS_AND_KEEPS})
        assert (201, bots.inspect(bot_id)["Id"]) == (created.status_code, created.json()["containerId"])
        assert 200 == http.post(f"{url}/start").status_code
        assert "CONTAINER_STATE_RUNNING" == http.get(url).json()["state"]
        assert bot_id in [each.get("botId") for each in http.get("/bots").json()]
        wait_until(lambda: GATEWAY_TOKEN in http.get(f"{url}/logs").text, "it shows its secret", 120)
        wait_until((roots.state / bot_id / "line").exists, "its state is on the host", 120)
        assert 200 == http.delete(url).status_code
        assert 404 == http.get(url).status_code
    assert [] == bots.containers()
    assert (roots.secrets / bot_id / "GATEWAY_TOKEN").exists()


def test_the_api_tier_provisions_a_bot_although_it_has_no_directory_of_it(
    engine: docker.DockerClient, deployment: Deployment, bots: Bots, roots: Roots
) -> None:
    bot_id = bots.bare()
    url = f"/bots/{bot_id}"
    with deployment.http() as http:
        wait_until(lambda: http.get("/healthz").status_code == 200, "the API tier serves", 60)
        # The second time into directories that only the bots' user can enter.
        for token in ("first", "second"):
            http.put(f"{url}/secrets", json={"secrets": {"GATEWAY_TOKEN": token}}).raise_for_status()
            http.put(f"{url}/files/a/b", content=b" b").raise_for_status()
            for path in (roots.secrets / bot_id, roots.state / bot_id):
                assert (1000, 1000, 0o40700) == (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode)
            assert token == (roots.secrets / bot_id / "GATEWAY_TOKEN").read_text()
        http.post(url, json={"command": FOREVER}).raise_for_status()
        http.post(f"{url}/start").raise_for_status()
        container = engine.containers.get(f"botmaker-{bot_id}")
        shown = container.exec_run(["cat", "/run/secrets/GATEWAY_TOKEN", "/home/node/.openclaw/a/b"], user="1000")
        assert (0, b"second b") == shown
        for path in (url, f"{url}/secrets", f"{url}/state"):
            http.delete(path).raise_for_status()
    assert ([], False, False) == (
        bots.containers(),
        (roots.secrets / bot_id).exists(),
        (roots.state / bot_id).exists(),
    )


def test_with_its_profile_metrics_are_scraped_from_a_port_of_the_machine(
    engine: docker.DockerClient, engine_url: str, deployment: Deployment
) -> None:
    make_debian_image(engine_url, SOCAT_IMAGE, ["ca-certificates", "socat"], 'ENTRYPOINT ["socat"]')
    try:
        deployment("--profile", "metrics", "up", "--detach")
        url = f"http://{deployment('--profile', 'metrics', 'port', 'metrics', '9464').strip()}/metrics"
        wait_until(lambda: _scraped(url), "the relay serves", 60)
        assert 1 == value(scrape(url), "container_manager_build_info")
        # The relay can open the metrics' socket alone.
        relay = deployment.container(engine, "metrics")
        assert ["/run/botmaker-metrics"] == [each["Destination"] for each in relay.attrs["Mounts"]]
    finally:
        deployment("--profile", "metrics", "rm", "--stop", "--force", "metrics")
        engine.images.remove(SOCAT_IMAGE, force=True)


def _scraped(url: str) -> bool:
    try:
        return bool(scrape(url))
    except OSError:
        return False


def test_the_api_tier_becomes_healthy_by_its_own_page(engine: docker.DockerClient, deployment: Deployment) -> None:
    tier = deployment.container(engine, "api-tier")
    wait_until(lambda: engine.api.inspect_container(tier.id)["State"]["Health"]["Status"] == "healthy", "healthy", 120)


# CAP_CHOWN is 0, CAP_DAC_OVERRIDE 1 and CAP_FOWNER 3 (capability.h).
@pytest.mark.parametrize(("service", "uid", "rights"), [("container-manager", "0", 0b1011), ("api-tier", "10002", 0)])
def test_neither_has_or_can_gain_a_capability_that_it_does_not_need_or_write_its_files(
    engine: docker.DockerClient, deployment: Deployment, service: str, uid: str, rights: int
) -> None:
    container = deployment.container(engine, service)
    sets = {f"Cap{name}:\t{0:016}" for name in ("Inh", "Amb")}
    sets |= {f"Cap{name}:\t{rights:016x}" for name in ("Prm", "Eff", "Bnd")}
    assert {"\t".join(["Uid:", *[uid] * 4]), *sets, "NoNewPrivs:\t1"} == set(printed(container, RIGHTS).splitlines())
    assert container.exec_run(["touch", "/opt/written"], user="0").output.endswith(b"Read-only file system\n")


def test_the_api_tier_has_no_docker_socket_and_nothing_of_the_service(
    engine: docker.DockerClient, deployment: Deployment
) -> None:
    container = deployment.container(engine, "api-tier")
    assert ["/run/botmaker"] == [mount["Destination"] for mount in container.attrs["Mounts"]]
    assert "" == printed(container, OF_DOCKER)
    told = container.exec_run(["/opt/api-tier/bin/python", "-c", IMPORTABLE]).output.decode()
    assert ["container_manager_client", "botmaker"] == told.split()


@pytest.mark.parametrize("service", SERVICES)
def test_the_images_have_no_compiler_no_cache_and_nothing_of_how_they_were_built(
    engine: docker.DockerClient, deployment: Deployment, service: str
) -> None:
    container = deployment.container(engine, service)
    assert "" == printed(container, OF_BUILDING)
    image = engine.api.inspect_image(container.attrs["Image"])
    told = [*image["Config"]["Env"], *(layer["CreatedBy"] for layer in engine.api.history(image["Id"]))]
    assert [] == [line for line in told if "PIP_" in line or "PROXY" in line.upper()]


@pytest.mark.parametrize(("groups", "status"), [([], 1), (["10001"], 0)], ids=["without", "with"])
def test_only_the_sockets_group_lets_a_container_to_the_service(
    engine: docker.DockerClient, deployment: Deployment, test_labels: dict[str, str], groups: list[str], status: int
) -> None:
    volume = f"{deployment.name}_socket"
    container = engine.containers.create(
        deployment.settings["API_TIER_IMAGE"],
        entrypoint=["python3", "-c", CONNECT],
        group_add=groups,
        labels=test_labels,
        volumes={volume: {"bind": "/run/botmaker", "mode": "ro"}},
    )
    try:
        container.start()
        assert status == container.wait(timeout=120)["StatusCode"]
        assert (b"Permission denied" in container.logs()) is bool(status)
    finally:
        container.remove(force=True)


def test_the_commands_of_the_service_find_it_in_its_container(deployment: Deployment) -> None:
    """The README's two; with an exit status other than 0, compose would fail."""
    [block] = [block for block in blocks("deploy/README.md") if block.text.startswith("docker-compose exec")]
    shown = {}
    for command in block.text.splitlines():
        words = command.split()
        assert ["docker-compose", "exec", "container-manager"] == words[:3]
        shown[words[3]] = deployment("exec", "-T", *words[2:])
    assert ["container-manager", "botctl"] == list(shown)
    assert "a server answers" in shown["container-manager"]
    assert shown["botctl"].startswith("BOT ")


@pytest.fixture
def container_of_readme(engine: docker.DockerClient) -> Iterator[str]:
    """A container name instead of the README's; the container is removed afterwards."""
    name = f"botmaker-test-{uuid.uuid4()}"
    yield name
    for found in engine.containers.list(all=True, filters={"name": f"^/{name}$"}):
        found.remove(force=True)


def test_the_readmes_docker_run_gives_a_service_that_is_healthy_and_ends_cleanly(
    engine: docker.DockerClient, deployment: Deployment, container_of_readme: str, session_dir: Path, roots: Roots
) -> None:
    """The README's command with the image, directories and socket of this test."""
    directory = session_dir / "one"
    directory.mkdir()
    os.chown(directory, 10001, 10001)
    [block] = [block for block in blocks("deploy/README.md") if "docker run" in block.text]
    command = block.text[block.text.index("docker run") :]
    docker_socket = deployment.settings["DOCKER_SOCKET"]
    for documented, here in {
        "--name container-manager": f"--name {container_of_readme}",
        "stat -c %g /var/run/docker.sock": f"stat -c %g {docker_socket}",
        "--volume /var/run/docker.sock:": f"--volume {docker_socket}:",
        "--volume /var/lib/botmaker/secrets:": f"--volume {roots.secrets}:",
        "--volume /run/botmaker:": f"--volume {directory}:",
        f"botmaker/container-manager:{__version__}": deployment.settings["SERVICE_IMAGE"],
    }.items():
        assert 1 == command.count(documented), documented
        command = command.replace(documented, here)
    subprocess.run(["sh", "-euc", command], env={**os.environ, "DOCKER_HOST": deployment.engine_url}, check=True)
    container = engine.containers.get(container_of_readme)
    wait_until(lambda: container.exec_run(["container-manager", "health"]).exit_code == 0, "it is healthy", 120)
    # As the README says.
    assert 0 == container.exec_run(["botctl", "list"]).exit_code
    assert {"max-size": "10m", "max-file": "3"} == container.attrs["HostConfig"]["LogConfig"]["Config"]
    assert (directory / "container-manager.sock").is_socket()
    container.stop(timeout=120)
    container.reload()
    assert ("exited", 0) == (container.status, container.attrs["State"]["ExitCode"])


def test_down_ends_both_cleanly_and_leaves_nothing_behind(
    engine: docker.DockerClient, new_deployment: NewDeployment
) -> None:
    deployment = new_deployment()
    deployment("up", "--detach")
    assert len(deployment.left(engine)) == 5, "two containers, a network, two volumes"
    containers = [deployment.container(engine, service) for service in SERVICES]
    deployment("stop")
    ended = [engine.api.inspect_container(each.id)["State"]["ExitCode"] for each in containers]
    # uvicorn ends by the signal that it received; neither process was killed.
    assert ended in ([0, 0], [0, 128 + signal.SIGTERM])
    deployment("down", "--volumes")
    assert [] == deployment.left(engine)
