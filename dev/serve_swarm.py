"""What `make serve-swarm` runs: three machines, and the service for them in the foreground, with calls to paste.

`python3 -m dev.serve_swarm`, within `python3 -m dev.run --`, whose engine builds the bot image. All it makes lies in
`.dev/`. The swarm is a new one each time; the images stay.
"""

import os
import secrets
import shlex
import signal
import socket as sockets
import subprocess
import sys
from pathlib import Path

from dev import docker_command
from dev.debian import MissingEngine
from dev.demo import PROGRAMS, STATE, calls, demo_bot, socket_path
from dev.docker_command import DockerError
from dev.images import BOT_IMAGE, ensure_bot_image, has_bot_image
from dev.processes import tied
from dev.remains import wait_for
from dev.swarm import SwarmBed, SwarmError

_STATE = STATE / "swarm"
_BED = _STATE / "bed"
_HOST_PORT = 18789
_NODES = 3
_SERVING_SECONDS = 60
# What a swarm of Docker 20.10 cannot keep in its own way: ports on one address alone, and no-new-privileges, which
# these nodes' engines have for all containers.
_WEAKER = ("host-address", "no-new-privileges")


def main() -> int:
    """Start the swarm and the service, print the calls, and wait for the service's end; its exit code."""
    docker_host = os.environ.get("DOCKER_HOST")
    if not docker_host:
        sys.exit("serve-swarm: DOCKER_HOST is not set; use `make serve-swarm`")
    try:
        ensure_bot_image(docker_host)
        settings = {"no-new-privileges": True}
        with SwarmBed(_BED, nodes=_NODES, settings=settings, keep_images=True) as bed:
            image = _image(bed, docker_host)
            docker_command.run(bed.nodes[0].docker_url, "node", "update", "--availability=drain", bed.nodes[0].name)
            return _serve(bed, image)
    except (MissingEngine, SwarmError, DockerError, OSError) as error:
        print(f"serve-swarm: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _image(bed: SwarmBed, docker_host: str) -> str:
    """Have the bot image on all nodes; its name there."""
    if all(has_bot_image(node.docker_url) for node in bed.nodes):
        return f"{bed.registry}/{BOT_IMAGE}"
    print(f"Copying {BOT_IMAGE} to the nodes: a minute or two the first time", file=sys.stderr, flush=True)
    return bed.load_image(BOT_IMAGE, source=docker_host)


def _serve(bed: SwarmBed, image: str) -> int:
    bot, socket, states, own = demo_bot(_STATE), socket_path(_STATE), _STATE / "state", _STATE / "secrets"
    for directory in (states, own):  # the swarm keeps bots' secrets; the service has a lock and a journal there
        directory.mkdir(mode=0o711, exist_ok=True)
    options = [
        *("--backend=swarm", f"--listen=unix://{socket}", f"--docker-host={bed.nodes[0].docker_url}"),
        *(f"--secrets-root={own}", f"--state-root={states}", "--placement=floating", f"--default-image={image}"),
        *(f"--node-engine={node.name}={node.docker_url}" for node in bed.nodes),
        *(f"--allow-weaker={weaker}" for weaker in _WEAKER),
    ]
    # In a process group of its own: a second SIGINT, from the terminal beside ours, would not let it finish.
    service = subprocess.Popen([*tied(), str(PROGRAMS / "container-manager"), "serve", *options], process_group=0)
    try:
        wait_for(lambda: service.poll() is not None or _answers(socket), _SERVING_SECONDS)
        if service.poll() is None:
            token = _put_token(bot, socket)
            print(_text(bed, bot, socket, token), flush=True)
        return service.wait()
    except KeyboardInterrupt:
        service.send_signal(signal.SIGINT)
        return service.wait()
    finally:
        service.terminate()
        service.wait()


def _answers(path: Path) -> bool:
    with sockets.socket(sockets.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _put_token(bot: str, socket: Path) -> Path:
    """Give the swarm the demo bot's secret; return the file that has it too."""
    token = _STATE / "GATEWAY_TOKEN"
    if not token.exists():
        token.touch(0o600)
        token.write_text(secrets.token_urlsafe(32), encoding="ascii")
    command = [str(PROGRAMS / "botctl"), "secrets", "put", f"--target=unix://{socket}", bot, f"GATEWAY_TOKEN=@{token}"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return token


def _text(bed: SwarmBed, bot: str, socket: Path, token: Path) -> str:
    enter = shlex.join(bed.enter_switch)
    nodes = [f"  {node.name}  {node.role:7}  {node.address}  docker --host {node.docker_url} ps" for node in bed.nodes]
    closing = [
        "The nodes have a network of their own; the status says on which one the bot is:",
        *nodes,
        f"Once it runs, its gateway is at http://ADDRESS:{_HOST_PORT}/ there, the token in",
        f"  {token}",
        f"  {enter} curl http://{bed.workers[0].address}:{_HOST_PORT}/healthz",
        "Ctrl-C here stops the service and the swarm.",
        "",
    ]
    return "\n".join([*calls(bot, socket, _HOST_PORT), *closing])


if __name__ == "__main__":
    sys.exit(main())
