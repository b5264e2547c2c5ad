"""The service that the documents' commands use, on the real engine, with a small image instead of the bot image."""

from __future__ import annotations

import io
import shutil
import socket
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import docker
import pytest

from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig, ServerConfig
from container_manager.validation import is_bot_id
from dev.images import BOT_IMAGE
from tests.docs.sandbox import Sandbox
from tests.support.serving import running_server

# The id in the README.
DEMO_BOT = "768851c1-180b-4431-8cb2-7f723c7c4c64"
GATEWAY_PORT, TCP_PORT, HTTP_PORT = "18789", "50051", "8000"
# Stands for the bot image: it logs that it is ready, answers at the gateway's port, and has the action `ready`.
STAND_IN = """FROM {base}
LABEL botmaker.actions=openclaw
RUN printf '#!/bin/sh\\nexec wget -q -O - http://127.0.0.1:{port}/healthz\\n' >/bin/node && chmod 755 /bin/node
CMD ["sh", "-c", "mkdir -p /tmp/www && echo '{{\\"ok\\":true,\\"status\\":\\"live\\"}}' >/tmp/www/healthz \
&& echo gateway ready && exec httpd -f -p {port} -h /tmp/www"]
"""
OpenSandbox = Callable[[str], Sandbox]


@pytest.fixture(scope="module")
def ports() -> dict[str, str]:
    """Maps the ports of the documents to free ones."""
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        real = [str(listener.getsockname()[1]) for listener in taken]
    return dict(zip((GATEWAY_PORT, TCP_PORT, HTTP_PORT), real, strict=True))


@pytest.fixture(scope="module")
def stand_in(engine: docker.DockerClient, test_image: str, ports: dict[str, str]) -> Iterator[str]:
    """The tag of an image, which is removed afterwards."""
    tag = f"botmaker-test/documented:{uuid.uuid4().hex[:12]}"
    dockerfile = io.BytesIO(STAND_IN.format(base=test_image, port=ports[GATEWAY_PORT]).encode())
    for message in engine.api.build(fileobj=dockerfile, tag=tag, rm=True, forcerm=True, decode=True):
        assert "error" not in message, message
    yield tag
    engine.images.remove(tag, force=True)


@pytest.fixture(scope="module")
def served(
    engine_url: str, session_dir: Path, ports: dict[str, str], stand_in: str
) -> Iterator[tuple[Path, ServerConfig]]:
    """A directory instead of ``/run/botmaker`` and ``/var/lib/botmaker``, and the service that uses it."""
    directory = Path(tempfile.mkdtemp(prefix="d", dir=session_dir))
    directory.chmod(0o755)
    secrets, state = directory / "lib" / "secrets", directory / "lib" / "state"
    for path in (secrets, state):
        path.mkdir(mode=0o711, parents=True)
    backups = directory / "lib" / "backups"
    backups.mkdir(mode=0o700)
    service = BackendConfig(
        secrets_root=RootDirectory(secrets, secrets),
        state_root=RootDirectory(state, state),
        docker_host=engine_url,
        default_image=stand_in,
    )
    config = ServerConfig(
        service=service,
        listen=(f"unix://{directory}/run/container-manager.sock", f"tcp://127.0.0.1:{ports[TCP_PORT]}"),
        token_file=directory / "lib" / "container-manager.token",
        backup_root=backups,
    )
    with running_server(config):
        yield directory, config


@pytest.fixture
def open_sandbox(
    served: tuple[Path, ServerConfig],
    ports: dict[str, str],
    engine: docker.DockerClient,
    all_bot_ids: list[str],
) -> Iterator[OpenSandbox]:
    """Opens a sandbox for a document. Afterwards its bots are removed and its processes ended."""
    directory, config = served
    secrets_root = config.service.secrets_root.path
    opened: list[Sandbox] = []

    def open_one(document: str) -> Sandbox:
        own = directory / "one"
        own.mkdir()
        names = {
            "/run/botmaker": str(directory / "run"),
            "/var/lib/botmaker": str(directory / "lib"),
            BOT_IMAGE: config.service.default_image,
            **ports,
        }
        environment = {
            "DOCKER_HOST": config.service.docker_host,
            "BOTCTL_TARGET": config.listen[0],
            "CONTAINER_MANAGER_TARGET": config.listen[0],
            # For a second service that a document starts, and for the doctor.
            "CONTAINER_MANAGER_LISTEN": f"unix://{directory}/second/container-manager.sock",
            "CONTAINER_MANAGER_DOCKER_HOST": config.service.docker_host,
            "CONTAINER_MANAGER_SECRETS_ROOT": str(secrets_root),
            "CONTAINER_MANAGER_DEFAULT_IMAGE": config.service.default_image,
            "CONTAINER_MANAGER_TOKEN_FILE": str(config.token_file),
        }
        sandbox = Sandbox(own, document, names, environment)
        opened.append(sandbox)
        # What `make serve` prepares for a newcomer.
        demo = sandbox.ids.get(DEMO_BOT, str(uuid.uuid4()))
        (sandbox.cwd / ".dev").mkdir()
        (sandbox.cwd / ".dev" / "demo-bot").write_text(f"{demo}\n", encoding="ascii")
        (sandbox.cwd / ".dev" / "run").symlink_to(directory / "run")
        (sandbox.cwd / ".dev" / "secrets").symlink_to(secrets_root)
        for bot_id in {demo, *sandbox.ids.values()}:
            (secrets_root / bot_id).mkdir(mode=0o700)
            (secrets_root / bot_id / "GATEWAY_TOKEN").write_text("token-of-a-document")
        return sandbox

    yield open_one
    for sandbox in opened:
        sandbox.close()
    # What the service keeps beside the bots' directories stays: it goes on.
    for path in (path for path in secrets_root.iterdir() if is_bot_id(path.name)):
        all_bot_ids.append(path.name)
        filters = {"label": f"botmaker.bot-id={path.name}"}
        for container in engine.containers.list(all=True, filters=filters, ignore_removed=True):
            container.remove(force=True, v=True)
        shutil.rmtree(path)
    shutil.rmtree(directory / "one", ignore_errors=True)
