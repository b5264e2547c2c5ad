"""The images of tests, the demo and deployments, made once per engine: `python3 -m dev.images test|bot|python`."""

import contextlib
import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from dev import docker_command
from dev.debian import unpacked
from dev.docker_command import DockerError
from dev.python_base import ensure_python_base

CHECKOUT = Path(__file__).resolve().parent.parent
TEST_IMAGE = "botmaker-test/busybox:1"
BOT_IMAGE = "botmaker/openclaw:2026.9.6"
OLDER_OPENCLAW = "2026.7.35"
"""The last version before the pinned one of which all packages of the bot image exist; it migrates its state since."""
SOURCE_HASH_LABEL = "botmaker.source-hash"

_PUBLIC_BUSYBOX = "busybox:1.36"
_BOT_SOURCES = CHECKOUT / "images" / "openclaw"
_BUSYBOX_ROOT = r"""
mkdir bin etc home root tmp
chmod 755 . bin etc home; chmod 700 root; chmod 1777 tmp
install -m 755 "$1" bin/busybox
for applet in $(bin/busybox --list); do [ "$applet" = busybox ] || ln -s busybox "bin/$applet"; done
printf 'root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000:node:/home/node:/bin/sh\n' >etc/passwd
printf 'root:x:0:\nnode:x:1000:\n' >etc/group
tar --create --owner=0 --group=0 --numeric-owner .
"""


def ensure_test_image(docker_host: str) -> str:
    """Make the 2 MB image for tests unless the engine has it: every busybox applet, no command; return its tag."""
    with _one_at_a_time("test"):
        if not _label(docker_host, TEST_IMAGE, "botmaker.test"):
            try:
                busybox = unpacked("busybox-static", "busybox", CHECKOUT / ".dev" / "packages")
            except LookupError:
                tar = _pulled_busybox(docker_host)
            else:
                tar = _busybox_tar(busybox)
            docker_command.run(docker_host, "import", "--change", "LABEL botmaker.test=1", "-", TEST_IMAGE, stdin=tar)
    return TEST_IMAGE


def ensure_bot_image(docker_host: str, version: str = "") -> str:
    """Build the bot image unless the engine has the one of these very sources; return its tag.

    ``version``: of OpenClaw, in place of the one that the sources pin.
    """
    tag = f"{BOT_IMAGE.partition(':')[0]}:{version}" if version else BOT_IMAGE
    with _one_at_a_time("bot"):
        if not has_bot_image(docker_host, tag):
            print(f"Building {tag}: some minutes the first time", file=sys.stderr, flush=True)
            command = [str(_BOT_SOURCES / "build.sh"), tag, "--label", f"{SOURCE_HASH_LABEL}={source_hash()}"]
            environment = docker_command.environment(docker_host)
            if version:
                environment |= {"OPENCLAW_VERSION": version}
            # Our own output is the tag alone.
            done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
            if done.returncode:
                raise DockerError(f"{command[0]} failed with status {done.returncode}, see above")
    return tag


def has_bot_image(docker_host: str, tag: str = BOT_IMAGE) -> bool:
    """Whether the engine has the bot image of these very sources."""
    return _label(docker_host, tag, SOURCE_HASH_LABEL) == source_hash()


def source_hash() -> str:
    """One hash over names, modes and contents of everything that the bot image is built from; a label of it."""
    digest = hashlib.sha256()
    for path in sorted(_BOT_SOURCES.rglob("*")):
        if path.is_file() and path.suffix not in {".md", ".pyc"}:
            content = path.read_bytes()
            executable = os.access(path, os.X_OK)
            digest.update(f"{path.relative_to(_BOT_SOURCES)}\0{executable}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()


def _busybox_tar(busybox: Path) -> bytes:
    with tempfile.TemporaryDirectory() as root:
        command = ["sh", "-eufc", _BUSYBOX_ROOT, "sh", str(busybox.absolute())]
        return subprocess.run(command, cwd=root, stdout=subprocess.PIPE, check=True).stdout


def _pulled_busybox(docker_host: str) -> bytes:
    """The files of the public image, which itself has a command that ours must not have."""
    docker_command.run(docker_host, "pull", "--quiet", _PUBLIC_BUSYBOX)
    container = docker_command.run(docker_host, "create", _PUBLIC_BUSYBOX).decode().strip()
    try:
        return docker_command.run(docker_host, "export", container)
    finally:
        docker_command.run(docker_host, "rm", "--volumes", container)


def _label(docker_host: str, image: str, label: str) -> str:
    """The image's label; empty without the label or the image."""
    template = f'{{{{index .Config.Labels "{label}"}}}}'
    try:
        return docker_command.run(docker_host, "image", "inspect", "--format", template, image).decode().strip()
    except DockerError:
        return ""


@contextlib.contextmanager
def _one_at_a_time(image: str) -> Iterator[None]:
    """Wait while another process makes this image; other images do not wait."""
    lock = CHECKOUT / ".dev" / f"{image}-image.lock"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(arguments: Sequence[str]) -> int:
    """Make the images named; print their tags."""
    makers = {"test": ensure_test_image, "bot": ensure_bot_image, "python": ensure_python_base}
    docker_host = os.environ.get("DOCKER_HOST")
    if not arguments or set(arguments) - set(makers) or not docker_host:
        print(f"usage: DOCKER_HOST=… python3 -m dev.images {'|'.join(makers)} … (or within dev.run)", file=sys.stderr)
        return 2
    try:
        for name in arguments:
            print(makers[name](docker_host), flush=True)
    except DockerError as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
