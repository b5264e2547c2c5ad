"""One container of the bot image in which many tests run its entry point, since a container for each takes a second."""

from __future__ import annotations

import io
import json
import tarfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from docker.models.containers import Container
from docker.types import Mount

from tests.support.bot_image import SECRETS_DIRECTORY, SecretFile

ENTRY_POINT = ("node", "--disable-warning=ExperimentalWarning", "/opt/entrypoint/main.mjs")


READ_ONLY, FULL, SINGLE_FILE = "/mounts/read-only", "/mounts/full", "/mounts/file"
"""State directories in which the configuration cannot be written."""
TMPFS = {READ_ONLY: "ro,size=4k", FULL: "size=4k,uid=1000"}
MOUNTS = (Mount(f"{SINGLE_FILE}/openclaw.json", "/etc/hostname", type="bind", read_only=True),)


class Ended(NamedTuple):
    """A program that has ended."""

    exit_code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Bench:
    """The container."""

    container: Container

    def put_secrets(self, files: Mapping[str, SecretFile], *, mode: int = 0o700, uid: int = 1000) -> None:
        """Replaces the secrets directory: these files, in a directory with this mode and owner."""
        self.shell(f"rm -rf {SECRETS_DIRECTORY}", user="0")
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            directory = tarfile.TarInfo("secrets")
            directory.type, directory.mode, directory.uid, directory.gid = tarfile.DIRTYPE, mode, uid, uid
            tar.addfile(directory)
            for name, file in files.items():
                member = file.member(f"secrets/{name}")
                if file.hard_link_to:
                    member.linkname = f"secrets/{file.hard_link_to}"
                tar.addfile(member, io.BytesIO(file.data))
        assert self.container.put_archive("/run", archive.getvalue())

    def run(self, command: Sequence[str], environment: Mapping[str, str], *, user: str = "node") -> Ended:
        """Run a program to its end."""
        exit_code, (stdout, stderr) = self.container.exec_run(
            list(command), environment=dict(environment), user=user, demux=True
        )
        return Ended(exit_code, (stdout or b"").decode(), (stderr or b"").decode())

    def entry_point(self, environment: Mapping[str, str], *command: str) -> Ended:
        """Run the entry point, with the state directory that the environment names."""
        return self.run((*ENTRY_POINT, *command), environment)

    def rendered(self, environment: Mapping[str, str]) -> dict[str, Any]:
        """The configuration that the entry point writes, in a state directory of its own unless one is named."""
        ended = self.entry_point({"OPENCLAW_STATE_DIR": self.new_directory()} | dict(environment), "render")
        assert ended.exit_code == 0, ended.stderr
        config: dict[str, Any] = json.loads(ended.stdout)
        return config

    def shell(self, script: str, *, user: str = "node") -> str:
        """The output of a shell script, which must succeed."""
        ended = self.run(("sh", "-euc", script), {}, user=user)
        assert ended.exit_code == 0, ended.stderr
        return ended.stdout

    @staticmethod
    def new_directory() -> str:
        """A path that nothing has."""
        return f"/tmp/{uuid.uuid4()}"

    def write(self, path: str, text: str) -> None:
        """Write a file as the bot's user, with its directory."""
        script = 'mkdir -p "$(dirname "$1")"; printf %s "$2" >"$1"'
        ended = self.run(("sh", "-euc", script, "sh", path, text), {})
        assert ended.exit_code == 0, ended.stderr
