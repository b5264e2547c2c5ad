"""A Docker Engine of our own, beside any that is there.

    with PrivateEngine(Path("/tmp/x")) as engine:
        subprocess.run(["docker", "--host", engine.url, "info"])

States: stopped -> start() -> running -> stop() -> stopped. kill() is a crash: running -> crashed, from where start()
takes up what is left, and stop() clears it.
What survives a stop is the data root: images, and containers that another start() revives.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from ipaddress import IPv4Network
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dev import bridge as bridges
from dev.debian import MissingEngine, add_system_paths, install
from dev.docker_command import answers
from dev.remains import boot_id, end_processes, helpers, start_ticks, sweep, wait_for

__all__ = ["EngineError", "MissingEngine", "PrivateEngine", "install"]

_START_SECONDS = 60
_SHUTDOWN_SECONDS = 5  # the engine's own patience with containers that ignore SIGTERM
_STOP_SECONDS = _SHUTDOWN_SECONDS + 20


class EngineError(RuntimeError):
    """The engine did not start, or is not in the state that a call needs."""


@dataclass
class _Record:
    """What another process needs to find, use and stop this engine; kept in a file beside the log."""

    boot: str
    pid: int
    ticks: int
    """With the pid, names the process: pids are used again."""
    runtime: str
    bridge: str
    pool: str


class PrivateEngine:
    """One `dockerd`, with socket, network, control groups and data that no other engine shares. Needs root.

    `directory` holds the log and a record by which another process finds the engine: a PrivateEngine made for the
    same directory is the same engine. `data_root` defaults to a directory in it. `settings` are those of daemon.json;
    `environment` is added to the daemon's.
    """

    def __init__(
        self,
        directory: Path,
        *,
        data_root: Path | None = None,
        dockerd: str = "dockerd",
        settings: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._settings = settings or {}
        self._environment = environment or {}
        self._directory = directory.absolute()
        self._data_root = (data_root or directory / "data").absolute()
        self._dockerd = dockerd
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def log(self) -> Path:
        """The file with the daemon's output."""
        return self._directory / "dockerd.log"

    @property
    def url(self) -> str:
        """The engine's address, as DOCKER_HOST; the same until stop()."""
        record = self._read()
        if record is None or not record.runtime:
            raise EngineError("the private engine is not started")
        return _url(record)

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        record = self._read()
        if record is None or not self._alive(record):
            raise EngineError("the private engine does not run")
        return record.pid

    @property
    def running(self) -> bool:
        """Whether the daemon's process is there."""
        record = self._read()
        return record is not None and self._alive(record)

    def start(self) -> None:
        """Start the engine and wait until it answers. A crashed one keeps its address and its containers."""
        if self.running:
            raise EngineError(f"the private engine of {self._directory} runs already")
        self._require()
        self._directory.mkdir(parents=True, exist_ok=True)
        self._data_root.mkdir(parents=True, exist_ok=True)
        record = self._prepare()
        try:
            self._launch(record)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the engine, if it runs, and remove all that it left behind except its data and its log."""
        record = self._read()
        if record is None or not record.runtime:
            return
        self._end(record, signal.SIGTERM)
        sweep(Path(record.runtime), self._data_root)
        bridges.remove(bridges.Bridge(record.bridge, IPv4Network(record.pool)), self._network_bridges())
        # The data root remembers networks by their addresses: the next start asks for the same ones.
        self._write(_Record("", 0, 0, "", "", record.pool))

    def kill(self, *, containers: bool = False) -> None:
        """SIGKILL the daemon and nothing else, as a crash would; or its `containers` too, as a power cut would.

        After a crash an engine stops the containers that it finds alive, and 20.10 then takes them for stopped by
        hand; after a power cut their restart policies hold.
        """
        record = self._read()
        if record is not None and self._alive(record):
            self._end(record, signal.SIGKILL)
            # Its containerd dies with it, a moment later; an engine started in that moment would wait for it in vain.
            wait_for(lambda: not helpers(Path(record.runtime), "containerd"), 5)
        if record is not None and record.runtime and containers:
            end_processes(Path(record.runtime))

    def restart(self) -> None:
        """Stop the daemon in an orderly way and start it again; address and containers stay."""
        record = self._read()
        if record is not None:
            self._end(record, signal.SIGTERM)
        self.start()

    def _require(self) -> None:
        if os.geteuid() != 0:
            raise MissingEngine("a private Docker Engine needs root: run as root, or start Docker and try again")
        add_system_paths()
        for program in (self._dockerd, "iptables", "ip"):
            if shutil.which(program) is None:
                raise MissingEngine(f"a private Docker Engine needs {program}, which is not installed")

    def _launch(self, record: _Record) -> None:
        """Start the daemon and wait until it answers."""
        log_start = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            # In a session of its own, so that Ctrl-C at the terminal does not reach the engine.
            self._process = subprocess.Popen(
                self._command(record),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    **{name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"},
                    **self._environment,
                },
                start_new_session=True,
            )
        record.pid, record.ticks = self._process.pid, start_ticks(self._process.pid) or 0
        self._write(record)
        wait_for(lambda: not self.running or answers(_url(record), 2), _START_SECONDS)
        if not self.running or not answers(_url(record)):
            raise EngineError(f"dockerd did not start, its log ends:\n{self._log_tail(log_start)}")

    def _prepare(self) -> _Record:
        """Make what the daemon needs, or find it again after a crash."""
        record = self._read()
        prefer = IPv4Network(record.pool) if record else None
        if record is None or not Path(record.runtime or "/nonexistent").is_dir() or record.boot != boot_id():
            # Short, because a socket's path must fit into 107 bytes, and outside the checkout.
            runtime = tempfile.mkdtemp(prefix="bm-engine-", dir="/tmp")
            Path(runtime, "daemon.json").write_text(json.dumps(dict(self._settings)), encoding="ascii")
            record = _Record(boot_id(), 0, 0, runtime, "", "")
        if not helpers(Path(record.runtime), "containerd"):
            # Where process 1 does not reap, a zombie looks alive to dockerd, which would wait for it.
            for stale in ("pid", "x/containerd/containerd.pid"):
                Path(record.runtime, stale).unlink(missing_ok=True)
        bridge = bridges.Bridge(record.bridge, prefer or IPv4Network(0))
        if record.bridge and bridges.exists(bridge):
            bridges.allow(bridge)
        else:
            bridge = bridges.create(prefer)
        record.bridge, record.pool = bridge.name, str(bridge.pool)
        self._write(record)
        return record

    def _command(self, record: _Record) -> list[str]:
        runtime = Path(record.runtime)
        return [
            self._dockerd,
            f"--config-file={runtime}/daemon.json",  # not the machine's own
            f"--data-root={self._data_root}",
            f"--exec-root={runtime}/x",
            f"--pidfile={runtime}/pid",
            f"--host={_url(record)}",
            f"--bridge={record.bridge}",
            "--iptables=false",
            "--ip6tables=false",
            f"--cgroup-parent=/{runtime.name}",
            "--exec-opt=native.cgroupdriver=cgroupfs",  # the other one needs systemd
            "--live-restore=false",
            f"--shutdown-timeout={_SHUTDOWN_SECONDS}",
        ]

    def _end(self, record: _Record, number: int) -> None:
        """Send the signal, then SIGKILL to what has not ended in time."""
        for attempt, seconds in ((number, _STOP_SECONDS), (signal.SIGKILL, 10)):
            if not self._alive(record):
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(record.pid, attempt)
            if wait_for(lambda: not self._alive(record), seconds):
                if self._process is not None and self._process.pid == record.pid:
                    self._process.wait()  # it may be a zombie still
                return
        raise EngineError(f"dockerd (process {record.pid}) does not end")

    def _network_bridges(self) -> set[str]:
        """The bridges of this engine's user-defined networks, by the network database in its data root."""
        database = self._data_root / "network" / "files" / "local-kv.db"
        content = database.read_bytes() if database.exists() else b""
        return {name.decode() for name in re.findall(rb"br-[0-9a-f]{12}(?![0-9a-f])", content)}

    def _alive(self, record: _Record) -> bool:
        if self._process is not None and self._process.pid == record.pid and self._process.poll() is not None:
            return False
        return bool(record.pid) and record.boot == boot_id() and start_ticks(record.pid) == record.ticks

    def _read(self) -> _Record | None:
        file = self._directory / "engine.json"
        entries = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
        return entries and _Record(**{each.name: entries[each.name] for each in fields(_Record)})

    def _write(self, record: _Record) -> None:
        partial = self._directory / "engine.json.new"
        partial.write_text(json.dumps(asdict(record)), encoding="utf-8")
        partial.replace(self._directory / "engine.json")

    def _log_tail(self, start: int) -> str:
        with self.log.open("rb") as log:
            log.seek(start)
            return "\n".join(log.read().decode(errors="replace").splitlines()[-15:])


def _url(record: _Record) -> str:
    return f"unix://{record.runtime}/docker.sock"
