"""Registries that answer with errors, or not at all: which failed pulls may be tried again."""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import docker
import pytest
import trustme

from container_manager.backends.docker.docker_service import DockerService
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig
from container_manager.errors import ContainerManagerError
from container_manager.model import ContainerConfig
from dev.engine import PrivateEngine
from tests.support.faulty_registry import Cut, End, Fault, FaultyRegistry, Reset, Status
from tests.unit.pull_wordings import DENIED, FAILED, MISSING, RETRY, Meaning

Pull = Callable[[str], ContainerManagerError]


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultyRegistry]:
    """The engine's proxy for every registry that is not on this machine; it refuses each with 503."""
    with FaultyRegistry() as proxy:
        proxy.fail("connect", Status(503, "Service Unavailable"))
        yield proxy


@pytest.fixture(scope="module")
def impatient_engine(tmp_path_factory: pytest.TempPathFactory, proxy: FaultyRegistry) -> Iterator[PrivateEngine]:
    """An engine that downloads each layer once only, instead of six times with growing pauses."""
    environment = {
        "HTTPS_PROXY": f"http://{proxy.address}",
        "HTTP_PROXY": "",
        "NO_PROXY": "10.0.0.0/8,172.16.0.0/12,.invalid",
    }
    settings = {"max-download-attempts": 1, "max-concurrent-downloads": 100}
    with PrivateEngine(tmp_path_factory.mktemp("engine"), settings=settings, environment=environment) as engine:
        yield engine


@pytest.fixture(scope="module")
def containerd_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateEngine]:
    """An engine that keeps images in containerd, which then pulls them, and words its errors differently."""
    settings = {"features": {"containerd-snapshotter": True}}
    with PrivateEngine(tmp_path_factory.mktemp("engine"), settings=settings) as engine:
        client = docker.DockerClient(base_url=engine.url)
        storage = str(client.info().get("DriverStatus"))
        client.close()
        if "io.containerd.snapshotter" not in storage:
            pytest.skip("this engine cannot keep images in containerd")
        yield engine


@contextmanager
def pulling(docker_host: str, secrets: Path) -> Iterator[Pull]:
    """Creates a bot from an image; the error."""
    service = DockerService(BackendConfig(secrets_root=RootDirectory(secrets, secrets), docker_host=docker_host))

    def call(image: str) -> ContainerManagerError:
        bot_id = str(uuid.uuid4())
        (secrets / bot_id).mkdir()
        with pytest.raises(ContainerManagerError) as caught:
            service.create_container(bot_id, ContainerConfig(image=image))
        return caught.value

    yield call
    service.close()


@pytest.fixture
def pull(impatient_engine: PrivateEngine, tmp_path: Path) -> Iterator[Pull]:
    with pulling(impatient_engine.url, tmp_path) as call:
        yield call


@pytest.fixture
def registry() -> Iterator[FaultyRegistry]:
    """A registry that needs no password."""
    with FaultyRegistry() as registry:
        yield registry


def json_error(status: int, code: str, message: str) -> Status:
    """A registry's error in the format of the distribution specification."""
    body = f'{{"errors":[{{"code":"{code}","message":"{message}"}}]}}'.encode()
    return Status(status, "", body, "application/json")


FAULTS: dict[Fault, Meaning] = {
    Status(401): DENIED,
    Status(403, "Forbidden", b"<html>403</html>", "text/html"): DENIED,
    json_error(403, "DENIED", "requested access to the resource is denied"): DENIED,
    Status(429, "Too Many Requests", b"error code: 1015"): RETRY,
    json_error(429, "TOOMANYREQUESTS", "You have reached your unauthenticated pull rate limit."): RETRY,
    Status(500): RETRY,
    Status(502, "Bad Gateway"): RETRY,
    Status(503, "Service Unavailable"): RETRY,
    Status(504, "Gateway Timeout"): RETRY,
    Status(521, "Web Server Is Down"): RETRY,
    Status(522): RETRY,
    Reset(): RETRY,
    End(): RETRY,
    Cut(): RETRY,
}


def wrong(pull: Pull) -> dict[tuple[str, Fault], ContainerManagerError]:
    """The errors that do not have the meaning of the fault, for each fault in each step of a pull.

    All at once, since the engine itself repeats a request for a configuration or a layer some seconds later.
    """
    cases = [(step, fault) for step in ("manifest", "config", "blob") for fault in FAULTS]

    def failing(case: tuple[str, Fault]) -> ContainerManagerError:
        with FaultyRegistry() as registry:
            registry.fail(*case)
            return pull(f"{registry.address}/bots/denied-403:timeout")

    with ThreadPoolExecutor(len(cases)) as pool:
        errors = dict(zip(cases, pool.map(failing, cases), strict=True))
    return {case: error for case, error in errors.items() if type(error) is not FAULTS[case[1]]}


def test_what_a_registry_answers_in_any_step_of_a_pull_decides_whether_to_try_again(pull: Pull) -> None:
    assert {} == wrong(pull)


def test_it_decides_as_well_where_the_engine_keeps_images_in_containerd(
    containerd_engine: PrivateEngine, tmp_path: Path
) -> None:
    with pulling(containerd_engine.url, tmp_path) as pull:
        assert {} == wrong(pull)


@pytest.mark.parametrize(
    ("fault", "meaning"),
    [
        (json_error(404, "MANIFEST_UNKNOWN", "manifest unknown"), MISSING),
        (json_error(404, "NAME_UNKNOWN", "repository name not known"), MISSING),
        (Status(404, "Not Found", b"404 page not found"), MISSING),
        (Status(400, "Bad Request", b"oh"), FAILED),
    ],
    ids=str,
)
def test_an_image_that_the_registry_does_not_have_is_not_found(
    registry: FaultyRegistry, pull: Pull, fault: Fault, meaning: Meaning
) -> None:
    registry.fail("manifest", fault)
    error = pull(f"{registry.address}/bots/unauthorized:403")
    assert meaning is type(error), error


@pytest.mark.parametrize(
    ("fault", "meaning"),
    [
        (Status(401), DENIED),
        (json_error(403, "DENIED", "no"), DENIED),
        (Status(404, "Not Found", b"404 page not found"), FAILED),
        (Status(500), RETRY),
        (Status(503, "Service Unavailable"), RETRY),
        (Status(522), RETRY),
        (Reset(), RETRY),
        (End(), RETRY),
        (Cut(), RETRY),
    ],
    ids=str,
)
def test_what_the_token_server_answers_decides_as_well(
    registry: FaultyRegistry, pull: Pull, fault: Fault, meaning: Meaning
) -> None:
    registry.require_token()
    registry.fail("token", fault)
    error = pull(f"{registry.address}/bots/any:1")
    assert meaning is type(error), error


def test_a_token_server_that_is_down_is_an_unavailable_registry(registry: FaultyRegistry, pull: Pull) -> None:
    with FaultyRegistry() as gone:
        realm = f"http://{gone.address}/token"
    registry.require_token(realm)
    assert RETRY is type(pull(f"{registry.address}/bots/any:1"))


def test_a_registry_whose_name_is_not_found_is_unavailable(pull: Pull) -> None:
    error = pull("denied.invalid/bots/any:1")
    assert RETRY is type(error), error


def test_a_registry_with_a_certificate_of_an_unknown_authority_is_not_tried_again(
    impatient_engine: PrivateEngine, pull: Pull
) -> None:
    client = docker.DockerClient(base_url=impatient_engine.url)
    # Not on the loopback, where engines verify no certificate.
    address = client.networks.get("bridge").attrs["IPAM"]["Config"][0]["Gateway"]
    client.close()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(address).configure_cert(context)
    with FaultyRegistry(address, tls=context) as registry:
        error = pull(f"{registry.address}/bots/any:1")
    assert FAILED is type(error), error


@pytest.mark.parametrize(
    ("fault", "meaning"),
    [
        (Status(503, "Service Unavailable"), RETRY),
        (Status(502, "Bad Gateway"), RETRY),
        (Status(407, "Proxy Authentication Required"), DENIED),
        (Status(403, "Forbidden"), DENIED),
        (End(), RETRY),
        (Reset(), RETRY),
    ],
    ids=str,
)
def test_what_the_engines_proxy_answers_decides_as_well(
    proxy: FaultyRegistry, pull: Pull, fault: Fault, meaning: Meaning
) -> None:
    proxy.fail("connect", fault)
    error = pull("registry.test/bots/any:1")
    assert meaning is type(error), error
