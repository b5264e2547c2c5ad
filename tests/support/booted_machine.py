"""A machine with systemd as its process 1, in a container beside the engine that it uses."""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path
from typing import Any

import docker
from docker.models.containers import Container

from dev.systemd_image import ensure_systemd_image
from tests.support.waiting import wait_until

CHECKOUT = Path(__file__).parents[2]
COPY = "/root/checkout"
_BOOT_SECONDS = 120


class BootedMachine:
    """:meth:`run` runs commands on it as root. Its engine is that of the tests, through the socket of every Docker."""

    def __init__(self, engine: docker.DockerClient, engine_url: str, labels: dict[str, str], lib: Path) -> None:
        """``lib``: the directory of this machine that is ``/var/lib/botmaker`` there; the engine mounts from it."""
        docker_socket = Path(engine_url.removeprefix("unix://"))
        self.container: Container = engine.containers.run(
            ensure_systemd_image(engine_url),
            name=f"systemd-{uuid.uuid4().hex[:8]}",
            labels=labels,
            detach=True,
            # What systemd itself needs; not the rights of --privileged, which not every machine has to give.
            cap_add=["SYS_ADMIN", "NET_ADMIN"],
            security_opt=["seccomp=unconfined", "apparmor=unconfined"],
            cgroupns="private",
            environment={"container": "docker"},
            stop_signal="SIGRTMIN+3",
            tmpfs=dict.fromkeys(("/run", "/run/lock", "/tmp"), ""),
            volumes={
                str(docker_socket): {"bind": "/run/docker.sock", "mode": "rw"},
                str(lib): {"bind": "/var/lib/botmaker", "mode": "rw"},
            },
        )
        try:
            wait_until(self._is_booted, "systemd has booted", _BOOT_SECONDS)
            self.run(f"groupadd --non-unique --gid {docker_socket.stat().st_gid} docker")
            self._copy_checkout()
        except BaseException:
            self.remove()
            raise

    def run(self, script: str, *, user: str = "root", status: int | None = 0, **environment: str) -> str:
        """The output of a script of `sh`, which must end with ``status``; ``None``: with any."""
        done = self.container.exec_run(["sh", "-euc", script], user=user, environment=environment)
        output: str = done.output.decode(errors="replace")
        assert status in (None, done.exit_code), f"{script}\nended with {done.exit_code}:\n{output}\n{self.journal()}"
        return output

    def shown(self, *properties: str) -> dict[str, str]:
        """Properties of the unit, as systemctl shows them."""
        told = self.run(f"systemctl show container-manager -p {','.join(properties)}")
        return dict(line.split("=", 1) for line in told.splitlines())

    def remove(self) -> None:
        """End it, with all that runs on it."""
        self.container.remove(force=True, v=True)

    def _is_booted(self) -> bool:
        self.container.reload()
        assert self.container.status == "running", self.container.logs().decode(errors="replace")
        return self.run("systemctl is-system-running || true").strip() in ("running", "degraded")

    def _copy_checkout(self) -> None:
        tree = subprocess.run(["git", "archive", "HEAD"], cwd=CHECKOUT, stdout=subprocess.PIPE, check=True).stdout
        self.run(f"mkdir -p {COPY}")
        self.container.put_archive(COPY, tree)

    def journal(self, lines: int = 100) -> str:
        """The last lines of the journal, of every unit."""
        done: Any = self.container.exec_run(["journalctl", "--no-pager", "-n", str(lines), "-o", "cat"])
        return str(done.output.decode(errors="replace"))
