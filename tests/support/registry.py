"""A real image registry for tests: Debian's docker-registry on a free port of 127.0.0.1, with its data thrown away.

An engine takes a registry on 127.0.0.0/8 without TLS, so no engine needs to be told of it.
"""

import base64
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from dev.registry import registry_program, registry_settings
from dev.remains import wait_for

CHECKOUT = Path(__file__).resolve().parents[2]
USER = "tester"
PASSWORD = "only-for-tests"
# bcrypt, the one kind that the registry takes; Python's library has none, hence a fixed password.
_HTPASSWD = "tester:$2b$05$g/dxz/2rRuApKJI9EPiZO.Db7KTZQYXcCaOK11pFSDN1YJn3c/ZvK\n"
_START_SECONDS = 20


class RegistryError(RuntimeError):
    """The registry did not start, or an image could not be pushed."""


class Registry:
    """A registry, for use in a `with` statement; with `password`, it denies whoever does not give USER and PASSWORD."""

    def __init__(self, *, password: bool = False) -> None:
        self._password = password
        self._directory = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self.address = ""
        """127.0.0.1:PORT, to put before an image's name."""

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

    def _start(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        settings = registry_settings(self.address, self._directory / "data")
        if self._password:
            (self._directory / "htpasswd").write_text(_HTPASSWD, encoding="ascii")
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
                [program, "serve", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "REGISTRY_"))},
                start_new_session=True,
            )
        process = self._process
        wait_for(lambda: process.poll() is not None or self._answers(), _START_SECONDS)
        if process.poll() is not None or not self._answers():
            raise RegistryError(f"docker-registry did not start:\n{log.read_text(errors='replace')[-2000:]}")

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(self.address, timeout=2)
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().status in {http.HTTPStatus.OK, http.HTTPStatus.UNAUTHORIZED}
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
