"""Whether a Docker Engine answers at an address."""

import http.client
import os
import socket
from urllib.parse import urlsplit


def answers(docker_host: str, timeout_seconds: float = 5.0) -> bool:
    """Whether the engine at `docker_host` answers a ping.

    unix:// and plain tcp:// are asked; anything else (ssh://, TLS) is taken for one that does.
    """
    parts = urlsplit(docker_host)
    if parts.scheme != "unix" and (parts.scheme != "tcp" or os.environ.get("DOCKER_TLS_VERIFY")):
        return True
    connection = http.client.HTTPConnection(parts.hostname or "localhost", parts.port or 2375, timeout=timeout_seconds)
    try:
        if parts.scheme == "unix":
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(timeout_seconds)
            connection.sock.connect(parts.path)
        connection.request("GET", "/_ping")
        response = connection.getresponse()
        return response.status == http.HTTPStatus.OK and response.read().strip() == b"OK"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
