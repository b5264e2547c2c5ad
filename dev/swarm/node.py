"""A node of the swarm: a machine with a Docker Engine of its own."""

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from dev.docker_command import answers
from dev.remains import remove_groups, wait_for
from dev.swarm.machine import Machine, SwarmError
from dev.swarm.record import Record
from dev.swarm.switch import NETWORK, Switch

Role = Literal["manager", "worker"]
_START_SECONDS = 60
_BEFORE_FIRST = 10
_CRASH = ("panic: ", "fatal error: ", "SIGABRT: ")  # how the last words of a program in Go begin


class Node:
    """States: off -> boot() -> on -> power_cut() -> off. While it is on, its engine runs or was killed, and its link is
    healed or cut; these two do not depend on each other. After a boot the engine runs and the link is healed.

    A method that is called in another state raises SwarmError.
    """

    def __init__(self, number: int, record: Record, switch: Switch) -> None:
        runtime = Path(record.runtime)
        self.name = f"n{number}"
        """Its host name, which is also its name in the swarm."""
        self.address = str(NETWORK[_BEFORE_FIRST + number])
        self.role: Role = "manager" if number <= record.managers else "worker"
        """What it joined the swarm as."""
        self.docker_url = f"unix://{runtime}/{self.name}/docker.sock"
        """Its engine's address, which can be reached from everywhere on this machine, also while its link is cut."""
        self.directory = Path(record.directory) / self.name
        self.local = self.directory / "local"
        """The files that this node has at the path `bed.local`."""
        self.log = self.directory / "dockerd.log"
        """The output of its engine, from all its starts."""
        self._runtime = runtime / self.name
        self._local_target = runtime / "local"
        self._group = f"{runtime.name}/{self.name}"
        self._switch = switch
        self._tree = record.tree
        self._log_start = 0
        self._machine = Machine(f"{self._runtime}/", self.log)

    @property
    def on(self) -> bool:
        """Whether it has power."""
        return self._machine.on

    @property
    def engine_pid(self) -> int | None:
        """The process id of its dockerd, as this machine sees it; None if it does not run."""
        return next(iter(self._machine.named("dockerd")), None)

    @property
    def enter(self) -> list[str]:
        """The words to put before a command that shall run on the node."""
        return self._machine.enter()

    def prepare(self, settings: Mapping[str, Any]) -> None:
        """Make its directories, with `settings` for its daemon.json beside those that the bed needs."""
        self._runtime.mkdir(parents=True)
        self.local.mkdir(parents=True, exist_ok=True)
        own = {
            "insecure-registries": [str(NETWORK)],
            "cgroup-parent": f"/{self._group}",
            "exec-opts": ["native.cgroupdriver=cgroupfs"],  # the other one needs systemd
            "shutdown-timeout": 5,
        }
        (self._runtime / "daemon.json").write_text(json.dumps({**own, **settings}), encoding="utf-8")

    def boot(self) -> None:
        """Off -> on: start it with the data that it has, and wait until its engine answers."""
        self._machine.start(self.name, bind=(str(self.local), str(self._local_target)), tree=self._tree)
        self._switch.plug(self.name, self._machine, self.address)
        self.start_engine()

    def power_cut(self) -> None:
        """On -> off: no packet of it gets out any more, then all its processes end at once.

        Its files stay, including those that were not synchronised with the disk.
        """
        self._require_on()
        self._switch.unplug(self.name)
        self._machine.kill()
        if not wait_for(lambda: not remove_groups(self._group), 10):
            raise SwarmError(f"the control groups of {self.name} do not go away")

    def cut_link(self) -> None:
        """Cut it off the network: every packet to it and from it is lost without a sign."""
        self._require_on()
        self._switch.cut(self.name)

    def heal_link(self) -> None:
        """Undo cut_link()."""
        self._require_on()
        self._switch.heal(self.name)

    def kill_engine(self) -> None:
        """SIGKILL dockerd alone, as a crash would. Its containers go on; the next start stops them."""
        pid = self.engine_pid
        if pid is None:
            raise SwarmError(f"the engine of {self.name} does not run")
        os.kill(pid, signal.SIGKILL)
        self._await_end()

    def start_engine(self) -> None:
        """Start the engine after kill_engine(), and wait until it answers."""
        self._require_on()
        if self.engine_pid is not None:
            raise SwarmError(f"the engine of {self.name} runs already")
        self._await_end()  # it may just have crashed
        self._log_start = self.log.stat().st_size
        socket, pidfile = self._runtime / "docker.sock", self._runtime / "docker.pid"
        for stale in (socket, pidfile):
            stale.unlink(missing_ok=True)
        process = self._machine.spawn(
            *("dockerd", f"--config-file={self._runtime}/daemon.json", f"--data-root={self.directory}/data"),
            *(f"--pidfile={pidfile}", f"--host={self.docker_url}"),
        )

        # The socket refuses in the moment before the engine listens. Then a request waits until the engine is ready.
        def ended_or_answers() -> bool:
            return process.poll() is not None or (socket.exists() and answers(self.docker_url, _START_SECONDS))

        if not wait_for(ended_or_answers, _START_SECONDS) or process.poll() is not None:
            raise SwarmError(f"the engine of {self.name} did not start, its log ends:\n{self._log_tail()}")

    def restore(self) -> None:
        """Any state -> on, with the engine running and the link healed. Raises SwarmError if the engine has crashed."""
        crash = self._crash()
        if not self.on:
            self.boot()
        else:
            self.heal_link()
            if self.engine_pid is None:
                self.start_engine()
        if crash:
            raise SwarmError(f"the engine of {self.name} has crashed:\n{crash}")

    def _await_end(self) -> None:
        # Its containerd dies with it, a moment later; an engine started in that moment would wait for it in vain.
        if not wait_for(lambda: not self._machine.named("dockerd") | self._machine.named("containerd"), 10):
            raise SwarmError(f"the engine of {self.name} does not end")

    def _crash(self) -> str:
        """What the engine wrote when it crashed, since it was last started; empty: it has not."""
        with self.log.open(encoding="utf-8", errors="replace") as log:
            log.seek(self._log_start)
            lines = log.read().splitlines()
        begins = next((number for number, line in enumerate(lines) if line.startswith(_CRASH)), len(lines))
        return "\n".join(lines[begins : begins + 15])

    def _require_on(self) -> None:
        if not self.on:
            raise SwarmError(f"{self.name} is off")

    def _log_tail(self) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
