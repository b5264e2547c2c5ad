"""A sandbox in which a document's commands do no harm: a directory, and other names for fixed paths and ports."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from tests.docs import curl, endless
from tests.docs.documents import TOP, read
from tests.docs.guard import objections, python_objections
from tests.docs.listing import BESIDE, UNTIL
from tests.support.waiting import wait_until

_UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
# The length of the id prefix that replaces a shorter one, which bots of others could share.
_CERTAIN = 18
_TIMEOUT_SECONDS = 120.0
_PROGRAMS = {
    # Tests that need root run as root; the others do not need sudo.
    "sudo": 'exec "$@"',
    "until_shown": f'exec {sys.executable} {endless.__file__} until "$@"',
    "beside": f'exec {sys.executable} {endless.__file__} beside "$@"',
}


class Sandbox:
    """Where one document is executed. Variables, directory and Python names last from block to block."""

    def __init__(self, directory: Path, document: str, names: dict[str, str], environment: dict[str, str]) -> None:
        self.names = names
        # The processes of the service and of this sandbox.
        self._own = directory.parent
        self.ids = {documented: str(uuid.uuid4()) for documented in sorted(set(_UUID.findall(read(document))))}
        self._processes = directory / "processes"
        self._kept = directory / "environment"
        self._python: dict[str, Any] = {"__name__": "__main__"}
        programs = directory / "bin"
        programs.mkdir()
        missing = {} if shutil.which("curl") else {"curl": f'exec {sys.executable} {curl.__file__} "$@"'}
        for name, script in {**_PROGRAMS, **missing}.items():
            (programs / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
            (programs / name).chmod(0o755)
        self.cwd = directory / "checkout"
        self.cwd.mkdir()
        for entry in TOP.iterdir():
            if entry.name not in {".git", ".dev"}:
                (self.cwd / entry.name).symlink_to(entry)
        unwanted = ("BOTCTL_", "CONTAINER_MANAGER_", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "PYTHON", "PYTEST")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
        self.environment = {
            **kept,
            **environment,
            "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(directory),
            "TERM": "dumb",
            "COLUMNS": "120",
            "DOCS_PROCESSES": str(self._processes),
            "PWD": str(self.cwd),
        }

    def real(self, text: str) -> str:
        """A document's text with the names of this sandbox."""
        for documented, here in sorted(self.names.items(), key=lambda pair: -len(pair[0])):
            text = re.sub(rf"(?<![\w.]){re.escape(documented)}(?!\w)", here.replace("\\", r"\\"), text)
        for documented, here in self.ids.items():
            text = text.replace(documented, here)
        return text

    def shell(
        self, script: str, *, guarded: bool = True, timeout_seconds: float = _TIMEOUT_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run a script with ``sh``, both outputs in one.

        ``guarded``: refuse what :mod:`tests.docs.guard` objects to; otherwise the caller knows the script.
        """
        script = re.sub(r"(?<![\w/-])[0-9a-f]{2,8}(?![\w/.:-])", self._whole, self.real(script))
        refused = objections(script, str(self._own)) if guarded else []
        assert [] == refused, "listing.py has to list it"
        for table, program in ((UNTIL, "until_shown"), (BESIDE, "beside")):
            for command, text in table.items():
                script = re.sub(rf"(?<![\w`]){re.escape(command)}", f"{program} {shlex.quote(text)} {command}", script)
        done = subprocess.run(
            ["sh", "-c", f"set -eua\n{script}\nenv -0 >{shlex.quote(str(self._kept))}"],
            cwd=self.environment["PWD"],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
        if self._kept.exists():
            pairs = (each.split("=", 1) for each in self._kept.read_text(encoding="utf-8").split("\0") if each)
            self.environment = dict(pairs)
            self._kept.unlink()
        return done

    def python(self, source: str, place: str) -> str:
        """Run a Python block with the names of earlier blocks; its output."""
        assert [] == python_objections(source), f"{place}: listing.py has to list it"
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(self.real(source), place, "exec"), self._python)
        return output.getvalue()

    def documented(self, output: str) -> str:
        """An output with the names of the documents."""
        for documented, here in self.names.items():
            output = output.replace(here, documented)
        return output

    def close(self) -> None:
        """End the processes that are still running."""
        if not self._processes.exists():
            return
        for text in self._processes.read_text(encoding="ascii").split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(text), signal.SIGTERM)
            wait_until(lambda pid=text: _has_ended(Path(f"/proc/{pid}/stat")), f"process {text} ends", 60)

    def _whole(self, beginning: re.Match[str]) -> str:
        """Replaces an id prefix by one that is long enough to be unique."""
        for documented, here in self.ids.items():
            if documented.startswith(beginning[0]):
                return here[:_CERTAIN]
        return beginning[0]


def _has_ended(stat: Path) -> bool:
    """Whether the process is gone or a zombie."""
    try:
        return stat.read_text(encoding="ascii").rpartition(") ")[2].startswith("Z")
    except FileNotFoundError:
        return True
