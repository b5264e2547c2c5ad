"""The service beside ``openclaw fleet``: the same work with a real bot each, ``python -m bench.fleet [FILE]``.

Both are used as an operator uses them, by their command lines, one after the other on the engine of DOCKER_HOST, with
the bot image in two versions, which are built if they are missing. Fleet runs from the bot image, in a container with
the host's network and Docker's command. Pulls are left out on both sides. The table goes to standard output, and into
FILE below its marker. Needs root. All that it makes is removed.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench import report
from bench.engine_http import RawEngine
from bench.processes import ProcessError, Program
from dev import docker_command
from dev.images import OLDER_OPENCLAW, ensure_bot_image

MARKER = "<!-- from here on made by `python -m bench.fleet` -->"
KEPT, WRITTEN = "kept-by-the-bench.txt", "written-by-broken.txt"
_BROKEN = f"""USER root
RUN mkdir /opt/broken && echo 'require("node:fs").writeFileSync("/home/node/.openclaw/{WRITTEN}", "x"); \\
console.log("cannot open the database"); process.exit(3)' >/opt/broken/broken.cjs
USER node
ENTRYPOINT ["node", "/opt/broken/broken.cjs"]"""
# As the official image has it, for which fleet is made.
_OFFICIAL = "ENTRYPOINT []\nWORKDIR /opt/openclaw/node_modules/openclaw"
_NO_PULLS = '#!/bin/sh\n[ "$1" = pull ] && exit 0\nexec /usr/libexec/docker "$@"\n'
_LONGEST_SECONDS = 900
_MOST_ENDS = 2


class Done(NamedTuple):
    """What a command has given."""

    seconds: float
    ok: bool
    output: str


def run(*command: str) -> Done:
    """Run a command to its end, and take the time."""
    begun = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST_SECONDS, check=False)
    return Done(time.monotonic() - begun, done.returncode == 0, f"{done.stdout}{done.stderr}")


def is_live(port: int) -> bool:
    """Whether a gateway answers at this port of the loopback address."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def together(*parts: Done) -> Done:
    """Several commands as one."""
    return Done(sum(part.seconds for part in parts), all(part.ok for part in parts), "".join(p.output for p in parts))


class Manager:
    """What both managers of one bot have in common."""

    state: Path
    """The directory with the bot's state."""
    bot: str

    def __init__(self, *command: str) -> None:
        """``command``: what the words of every command follow."""
        self._command = command

    def list(self) -> Done:
        return self._run("list")

    def backup(self) -> Done:
        raise NotImplementedError

    def backup_stopped(self) -> Done:
        return together(self._run("stop", self.bot), self.backup(), self._start())

    def _start(self) -> Done:
        """Start the bot, and wait until it answers."""
        raise NotImplementedError

    def _run(self, *words: str) -> Done:
        return run(*self._command, *words)


class Ours(Manager):
    """The container manager, by botctl."""

    def __init__(self, docker_host: str, scratch: Path, stack: ExitStack) -> None:
        roots = {name: scratch / name for name in ("secrets", "state", "backup")}
        for name, root in roots.items():
            root.mkdir(mode=0o700 if name == "backup" else 0o711)
        options = [word for name, root in roots.items() for word in (f"--{name}-root", str(root))]
        socket = scratch / "service" / "socket"
        socket.parent.mkdir(mode=0o700)
        command = [sys.executable, "-m", "container_manager", "serve", "--listen", f"unix://{socket}"]
        service = stack.enter_context(Program(socket, [*command, "--docker-host", docker_host, *options]))
        super().__init__(str(Path(sys.executable).with_name("botctl")), "--target", service.target)
        self.bot = str(uuid.uuid4())
        self._token = scratch / "token"
        self._token.write_text("t" * 48)
        self.state = roots["state"] / self.bot

    def create(self, image: str) -> Done:
        return together(
            self._run("secrets", "put", self.bot, f"GATEWAY_TOKEN=@{self._token}", f"OPENAI_API_KEY=@{self._token}"),
            self._run("create", self.bot, "--image", image, "--provider", "openai", "--model", "gpt-5.4"),
            self._start(),
        )

    def _start(self) -> Done:
        return self._run("start", "--wait", self.bot)

    def upgrade(self, image: str) -> Done:
        return self._run("upgrade", self.bot, "--image", image, "--ready-timeout", "300s")

    def backup(self) -> Done:
        return self._run("backup", "create", self.bot)

    def restore(self) -> Done:
        listed = self._run("-o", "json", "backup", "list", self.bot).output
        newest = re.findall('"backup_?[Ii]d": "([^"]+)"', listed)[0]
        return self._run("backup", "restore", self.bot, newest)

    def remove(self) -> None:
        self._run("remove", self.bot)


class Fleet(Manager):
    """``openclaw fleet``, in a container beside the engine."""

    def __init__(self, docker_host: str, scratch: Path, stack: ExitStack, *, image: str) -> None:
        """``image``: has the command."""
        self._docker = docker_host
        self._archive = scratch / "cell.tgz"
        (scratch / "fleet").mkdir()
        docker = scratch / "docker"
        docker.write_text(_NO_PULLS)
        docker.chmod(0o755)
        socket = docker_host.removeprefix("unix://")
        program = shutil.which("docker")
        mounts = [f"{scratch}:{scratch}", f"{socket}:{socket}", f"{docker}:/usr/bin/docker:ro"]
        mounts.append(f"{program}:/usr/libexec/docker:ro")
        tool = f"bench-fleet-{uuid.uuid4().hex[:8]}"
        stack.callback(self._engine, "rm", "--force", tool)
        self._engine(
            *("run", "--detach", "--name", tool, "--network", "host", "--user", "0", "--entrypoint", "sleep"),
            *(word for mount in mounts for word in ("--volume", mount)),
            *("--env", f"DOCKER_HOST={docker_host}", "--env", f"OPENCLAW_STATE_DIR={scratch}/fleet"),
            *(image, "infinity"),
        )
        super().__init__("docker", "--host", docker_host, "exec", tool, "openclaw", "fleet")
        self.bot = "cell"
        self.state = scratch / "fleet" / "fleet" / "cells" / self.bot

    def _engine(self, *words: str) -> bytes:
        return docker_command.run(self._docker, *words)

    def _live(self) -> Done:
        """Wait until the gateway answers; a command of fleet gives up after a minute, or does not wait."""
        port = int(self._engine("port", "openclaw-cell-cell", "18789").split(b":")[-1])
        begun = time.monotonic()
        while not is_live(port):
            ended = int(self._engine("inspect", "--format", "{{.RestartCount}}", "openclaw-cell-cell"))
            if ended > _MOST_ENDS or time.monotonic() - begun > _LONGEST_SECONDS:
                return Done(time.monotonic() - begun, ok=False, output="it does not answer")
            time.sleep(0.5)
        return Done(time.monotonic() - begun, ok=True, output="")

    def create(self, image: str) -> Done:
        return together(self._run("create", "cell", "--image", image)._replace(ok=True), self._live())

    def _start(self) -> Done:
        return together(self._run("start", "cell"), self._live())

    def upgrade(self, image: str) -> Done:
        return self._run("upgrade", "cell", "--image", image)

    def backup(self) -> Done:
        return self._run("backup", "cell", "--out", str(self._archive))

    def restore(self) -> Done:
        return self._run("restore", "cell", "--from", str(self._archive), "--force")

    def remove(self) -> None:
        self._run("rm", "cell", "--force", "--purge-data")


def schema(state: Path) -> int:
    """The version of the database in a bot's state."""
    with sqlite3.connect(f"file:{state}/state/openclaw.sqlite?mode=ro", uri=True) as database:
        return int(database.execute("PRAGMA user_version").fetchone()[0])


def measure(manager: Ours | Fleet, images: dict[str, str]) -> dict[str, str]:
    """Each row's cell."""
    state, cells = manager.state, {}

    def row(name: str, done: Done, fact: str = "") -> None:
        cells[name] = f"{done.seconds:.1f} s{', ' if fact else ''}{fact}"
        print(f"{name}: {cells[name]} {'' if done.ok else done.output.strip()[-600:]}", flush=True)

    def create(image: str) -> Done:
        done = manager.create(image)
        if not done.ok:
            raise ProcessError(done.output)
        return done

    row("create and start", create(images["older"]))
    row("list", manager.list())
    (state / KEPT).write_text("kept")
    before = schema(state)
    done = manager.upgrade(images["newer"])
    migrated = "migrated" if (state / KEPT).exists() and schema(state) > before else "not migrated"
    row("upgrade", done, f"state kept and {migrated}" if done.ok else f"failed, and the state is {migrated}")
    if not done.ok:
        # The older version does not start on a migrated state.
        manager.remove()
        create(images["newer"])
        (state / KEPT).write_text("kept")
    done = manager.upgrade(images["broken"])
    written = (state / WRITTEN).exists()
    row(
        "upgrade to an image that crashes",
        done,
        "the state stays as the broken image left it" if written else "the state is as before",
    )
    (state / WRITTEN).unlink(missing_ok=True)
    done = manager.backup()
    row("backup while it runs", done, "" if done.ok else "refused")
    row("stop, backup, start", manager.backup_stopped())
    (state / KEPT).unlink()
    done = manager.restore()
    row("restore while it runs", done, "state restored" if (state / KEPT).exists() else "state not restored")
    return cells


def table(columns: dict[str, dict[str, str]], around: dict[str, object]) -> str:
    """The Markdown table, with the circumstances of the run."""
    names = list(next(iter(columns.values())))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(cells[name] for cells in columns.values()) + " |" for name in names]
    return "\n".join([*lines, "", "; ".join(f"{key}: {value}" for key, value in around.items()) + "."])


def main(arguments: Sequence[str]) -> int:
    """Measure both; write the table."""
    docker_host = os.environ["DOCKER_HOST"]
    # Every usual way to end a process unwinds it, so that what was made is removed.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    # Docker's command may come without the other builder.
    os.environ["DOCKER_BUILDKIT"] = "0"
    older, newer = ensure_bot_image(docker_host, OLDER_OPENCLAW), ensure_bot_image(docker_host)
    around: dict[str, object] = {
        "OpenClaw": f"{OLDER_OPENCLAW} to {newer.partition(':')[2]}",
        **report.circumstances(RawEngine(docker_host).version()),
    }
    made = []
    columns = {}
    try:

        def derived(name: str, base: str, lines: str) -> str:
            tag = f"bench-fleet/{name}:1"
            docker_command.run(docker_host, "build", "--tag", tag, "-", stdin=f"FROM {base}\n{lines}\n".encode())
            made.append(tag)
            return tag

        broken = derived("broken", newer, _BROKEN)
        cell_images = {"older": derived("older", older, _OFFICIAL), "newer": derived("newer", newer, _OFFICIAL)}
        kinds: tuple[tuple[str, Callable[..., Ours | Fleet], dict[str, str]], ...] = (
            ("this service", Ours, {"older": older, "newer": newer}),
            ("`openclaw fleet`", partial(Fleet, image=newer), cell_images),
        )
        for name, kind, images in kinds:
            with tempfile.TemporaryDirectory(prefix="bench-fleet-") as directory, ExitStack() as stack:
                Path(directory).chmod(0o755)
                manager = kind(docker_host, Path(directory), stack)
                stack.callback(manager.remove)
                print(f"{name}:", flush=True)
                columns[name] = measure(manager, {**images, "broken": broken})
    finally:
        for tag in made:
            docker_command.run(docker_host, "rmi", "--force", tag)
    around["load average after"] = report.load()
    text = table(columns, around)
    print(f"\n{text}")
    for path in map(Path, arguments):
        path.write_text(f"{path.read_text().partition(MARKER)[0]}{MARKER}\n\n{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
