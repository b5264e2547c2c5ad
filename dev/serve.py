"""What `make serve` runs: the service in the foreground, ready for a demo bot, with calls to paste.

`python3 -m dev.serve`, within `python3 -m dev.run --`. All it makes lies in `.dev/`.
"""

import os
import secrets
import sys
from pathlib import Path

from dev import docker_command
from dev.demo import PROGRAMS, STATE, calls, demo_bot, socket_path
from dev.docker_command import DockerError
from dev.images import BOT_IMAGE, ensure_bot_image, ensure_test_image

_STATE = STATE
_BOT_UID = 1000
_HOST_PORT = 18789


def main() -> None:
    """Prepare, print the calls, and become the service."""
    docker_host = os.environ.get("DOCKER_HOST")
    if not docker_host:
        sys.exit("serve: DOCKER_HOST is not set; use `make serve`")
    try:
        ensure_bot_image(docker_host)
        bot = demo_bot(_STATE)
        token = _demo_directories(bot, docker_host)
    except (DockerError, OSError) as error:
        sys.exit(f"serve: {error}")
    socket = socket_path(_STATE)
    print(_text(bot, token, socket), flush=True)
    program = str(PROGRAMS / "container-manager")
    arguments = {
        "--listen": f"unix://{socket}",
        "--docker-host": docker_host,
        "--secrets-root": str(_STATE / "secrets"),
        "--state-root": str(_STATE / "state"),
        "--default-image": BOT_IMAGE,
    }
    os.execv(program, [program, "serve", *(part for pair in arguments.items() for part in pair)])


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


def _text(bot: str, token: Path, socket: Path) -> str:
    closing = [
        f"Once it runs, its gateway is at http://127.0.0.1:{_HOST_PORT}/, the token in",
        f"  {token}",
        "Ctrl-C here stops the service.",
        "",
    ]
    return "\n".join([*calls(bot, socket, _HOST_PORT), *closing])


if __name__ == "__main__":
    main()
