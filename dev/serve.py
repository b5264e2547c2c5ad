"""What `make serve` runs: the service in the foreground, ready for a demo bot, with calls to paste.

`python3 -m dev.serve`, within `python3 -m dev.run --`. All it makes lies in `.dev/`.
"""

import json
import os
import secrets
import sys
import tempfile
import uuid
from pathlib import Path

from dev import docker_command
from dev.docker_command import DockerError
from dev.images import BOT_IMAGE, ensure_bot_image, ensure_test_image

CHECKOUT = Path(__file__).resolve().parent.parent
_STATE = CHECKOUT / ".dev"
_PROGRAMS = CHECKOUT / ".venv" / "bin"
_BOT_UID = 1000
_LONGEST_SOCKET_PATH = 107
_SERVICE = "botmaker.container.v1.ContainerManager"
_GATEWAY_PORT = 18789
_HOST_PORT = 18789


def main() -> None:
    """Prepare, print the calls, and become the service."""
    docker_host = os.environ.get("DOCKER_HOST")
    if not docker_host:
        sys.exit("serve: DOCKER_HOST is not set; use `make serve`")
    try:
        ensure_bot_image(docker_host)
        bot = _demo_bot()
        token = _demo_directories(bot, docker_host)
    except (DockerError, OSError) as error:
        sys.exit(f"serve: {error}")
    socket = _socket_path()
    print(_calls(bot, token, socket), flush=True)
    program = str(_PROGRAMS / "container-manager")
    arguments = {
        "--listen": f"unix://{socket}",
        "--docker-host": docker_host,
        "--secrets-root": str(_STATE / "secrets"),
        "--state-root": str(_STATE / "state"),
        "--default-image": BOT_IMAGE,
    }
    os.execv(program, [program, "serve", *(part for pair in arguments.items() for part in pair)])


def _demo_bot() -> str:
    """The demo bot's id, the same every time."""
    file = _STATE / "demo-bot"
    _STATE.mkdir(exist_ok=True)
    if not file.exists():
        file.write_text(f"{uuid.uuid4()}\n", encoding="ascii")
    return str(uuid.UUID(file.read_text(encoding="ascii").strip()))


def _demo_directories(bot: str, docker_host: str) -> Path:
    """The bot's secrets and state, readable by the bot's user alone; return the gateway token's file."""
    directories = [_STATE / "secrets" / bot, _STATE / "state" / bot]
    for directory in directories:
        directory.parent.mkdir(mode=0o711, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
    token = directories[0] / "GATEWAY_TOKEN"
    if directories[0].stat().st_uid == os.geteuid() or os.geteuid() == 0:
        if not token.exists():
            token.touch(0o600)
            token.write_text(secrets.token_urlsafe(32), encoding="ascii")
        if os.geteuid() != _BOT_UID:
            _give_to_bot(directories, token, docker_host)
    return token


def _give_to_bot(directories: list[Path], token: Path, docker_host: str) -> None:
    """Change the owner, by the engine if we are not root: OpenClaw refuses secret files that its user does not own."""
    if os.geteuid() == 0:
        for path in [*directories, token]:
            os.chown(path, _BOT_UID, _BOT_UID)
        return
    mounts = [f"--mount=type=bind,source={path},target=/{index}" for index, path in enumerate(directories)]
    targets = [f"/{index}" for index, _ in enumerate(directories)]
    image = ensure_test_image(docker_host)
    arguments = ("run", "--rm", *mounts, image, "chown", "-R", f"{_BOT_UID}:{_BOT_UID}", *targets)
    docker_command.run(docker_host, *arguments)


def _socket_path() -> Path:
    """In `.dev/run/`, or in a short directory where that would be too long for a socket."""
    directory = _STATE / "run"
    directory.mkdir(exist_ok=True)
    directory.chmod(0o700)
    path = directory / "container-manager.sock"
    if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
        path = Path(tempfile.mkdtemp(prefix="container-manager-", dir="/tmp")) / path.name
    return path


def _calls(bot: str, token: Path, socket: Path) -> str:
    config = {
        "aiProvider": "ollama",
        "aiModel": "llama3.3",
        "ports": [{"containerPort": _GATEWAY_PORT, "hostPort": _HOST_PORT}],
        "extraHosts": {"host.docker.internal": "host-gateway"},
    }
    calls: list[tuple[str, dict[str, object]]] = [
        ("CreateContainer", {"botId": bot, "config": config}),
        ("StartContainer", {"botId": bot}),
        ("GetContainerStatus", {"botId": bot}),
    ]
    buf = f"{_PROGRAMS / 'buf'} curl --protocol grpc --http2-prior-knowledge --unix-socket {socket}"
    lines = ["", f"The demo bot is {bot}. In another terminal:", ""]
    for method, request in calls:
        lines += [f"{buf} \\\n  -d '{json.dumps(request)}' \\\n  http://localhost/{_SERVICE}/{method}", ""]
    lines += [
        f"Once it runs, its gateway is at http://127.0.0.1:{_HOST_PORT}/, the token in",
        f"  {token}",
        "Ctrl-C here stops the service.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
