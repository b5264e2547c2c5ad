"""A real image registry for tests: Debian's docker-registry on a free port of 127.0.0.1, with its data thrown away.

An engine takes a registry on 127.0.0.0/8 without TLS, so no engine needs to be told of it. In the network of a bed's
nodes, all of them reach one.
"""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from dev.registry import registry_listens, registry_program, registry_settings
from dev.remains import wait_for

CHECKOUT = Path(__file__).resolve().parents[2]
USER = "tester"
PASSWORD = "only-for-tests"
# bcrypt, the one kind that the registry takes; Python's library has none, hence a fixed password.
_HASH = "$2b$05$g/dxz/2rRuApKJI9EPiZO.Db7KTZQYXcCaOK11pFSDN1YJn3c/ZvK"
_START_SECONDS = 20


class RegistryError(RuntimeError):
    """The registry did not start, or an image could not be pushed."""


class Registry:
    """A registry, for use in a `with` statement; with `password`, it denies whoever does not give USER and PASSWORD.

    `address`: HOST:PORT instead; `enter`: the words to put before a command that shall run in the network of that.
    """

    def __init__(self, *, password: bool = False, address: str = "", enter: Sequence[str] = ()) -> None:
        self._password = password
        self._enter = enter
        self._directory = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self.address = address
        """HOST:PORT, to put before an image's name."""

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="bm-registry-"))
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop it and remove its data; from then on connections are refused."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        shutil.rmtree(self._directory, ignore_errors=True)

    def push(self, docker_host: str, image: str, name: str) -> str:
        """Push the engine's `image` as `name`; return its full reference. The engine keeps no tag of that name."""
        reference = f"{self.address}/{name}"
        secret = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        config = {"auths": {self.address: {"auth": secret}}} if self._password else {}
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "config.json").write_text(json.dumps(config), encoding="ascii")
            for command in (["tag", image, reference], ["push", reference], ["rmi", "--no-prune", reference]):
                done = subprocess.run(
                    ["docker", "--host", docker_host, "--config", directory, *command],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if done.returncode:
                    raise RegistryError(f"docker {' '.join(command)}: {done.stderr.strip()}")
        return reference

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Take connections inside, and answer nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def admit(self, user: str) -> None:
        """Deny whoever does not give this user and PASSWORD, from now on."""
        (self._directory / "htpasswd").write_text(f"{user}:{_HASH}\n", encoding="ascii")

    def _start(self) -> None:
        if not self.address:
            with socket.create_server(("127.0.0.1", 0)) as probe:
                self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        settings = registry_settings(self.address, self._directory / "data")
        if self._password:
            self.admit(USER)
            settings += f"auth: {{htpasswd: {{realm: tests, path: {self._directory}/htpasswd}}}}\n"
        config = self._directory / "config.yml"
        config.write_text(settings, encoding="ascii")
        log = self._directory / "log"
        try:
            program = registry_program()
        except LookupError as error:
            raise RegistryError(f"docker-registry is not installed and cannot be had: {error}") from error
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*self._enter, program, "serve", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "REGISTRY_"))},
                start_new_session=True,
            )
        process = self._process
        port = int(self.address.rpartition(":")[2])
        wait_for(lambda: process.poll() is not None or registry_listens(process.pid, port), _START_SECONDS)
        if process.poll() is not None or not registry_listens(process.pid, port):
            raise RegistryError(f"docker-registry did not start:\n{log.read_text(errors='replace')[-2000:]}")
