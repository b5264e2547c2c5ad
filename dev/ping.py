"""Whether a Docker Engine answers at an address."""

import http.client
import os
import shutil
import socket
import subprocess
from urllib.parse import urlsplit


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path
        self._seconds = timeout

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._seconds)
        self.sock.connect(self._path)


def answers(docker_host: str, timeout_seconds: float = 5.0) -> bool:
    """Whether the engine at `docker_host` answers a ping.

    unix:// and plain tcp:// are asked directly; anything else (ssh://, TLS) is left to the docker command.
    """
    parts = urlsplit(docker_host)
    connection: http.client.HTTPConnection
    if parts.scheme == "unix":
        connection = _UnixConnection(parts.path, timeout_seconds)
    elif parts.scheme == "tcp" and parts.hostname and not os.environ.get("DOCKER_TLS_VERIFY"):
        connection = http.client.HTTPConnection(parts.hostname, parts.port or 2375, timeout=timeout_seconds)
    else:
        return _cli_answers(docker_host, timeout_seconds)
    try:
        connection.request("GET", "/_ping")
        response = connection.getresponse()
        return response.status == http.HTTPStatus.OK and response.read().strip() == b"OK"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _cli_answers(docker_host: str, timeout_seconds: float) -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    try:
        return not subprocess.run(
            [docker, "--host", docker_host, "version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_seconds,
            check=False,
        ).returncode
    except subprocess.TimeoutExpired:
        return False
