"""A demo bot for a service in the foreground: its id, the service's socket, and calls to paste."""

import json
import os
import tempfile
import uuid
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
PROGRAMS = CHECKOUT / ".venv" / "bin"
STATE = CHECKOUT / ".dev"
GATEWAY_PORT = 18789
_LONGEST_SOCKET_PATH = 107
_SERVICE = "botmaker.container.v1.ContainerManager"


def demo_bot(state: Path) -> str:
    """The demo bot's id, the same every time."""
    file = state / "demo-bot"
    state.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        file.write_text(f"{uuid.uuid4()}\n", encoding="ascii")
    return str(uuid.UUID(file.read_text(encoding="ascii").strip()))


def socket_path(state: Path) -> Path:
    """A socket in `run/`, or in a short directory where that would be too long for a socket."""
    directory = state / "run"
    directory.mkdir(exist_ok=True)
    directory.chmod(0o700)
    path = directory / "container-manager.sock"
    if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
        path = Path(tempfile.mkdtemp(prefix="container-manager-", dir="/tmp")) / path.name
    return path


def calls(bot: str, socket: Path, host_port: int) -> list[str]:
    """Lines with three calls that create and start the bot and show its status."""
    config = {
        "aiProvider": "ollama",
        "aiModel": "llama3.3",
        "ports": [{"containerPort": GATEWAY_PORT, "hostPort": host_port}],
        "extraHosts": {"host.docker.internal": "host-gateway"},
    }
    requests: list[tuple[str, dict[str, object]]] = [
        ("CreateContainer", {"botId": bot, "config": config}),
        ("StartContainer", {"botId": bot}),
        ("GetContainerStatus", {"botId": bot}),
    ]
    buf = f"{PROGRAMS / 'buf'} curl --protocol grpc --http2-prior-knowledge --unix-socket {socket}"
    lines = ["", f"The demo bot is {bot}. In another terminal:", ""]
    for method, request in requests:
        lines += [f"{buf} \\\n  -d '{json.dumps(request)}' \\\n  http://localhost/{_SERVICE}/{method}", ""]
    return lines
