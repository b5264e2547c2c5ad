"""gRPC-web and Connect are refused, as docs/clients.md says, and disturb nobody."""

from __future__ import annotations

import http.client
import socket
import subprocess
from contextlib import closing, suppress
from pathlib import Path

import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager_client import connect

# Beside the lowest versions there is none.
BUF = Path(__file__).parents[2] / ".venv" / "bin" / "buf"

METHOD = "/botmaker.container.v1.ContainerManager/ListManagedContainers"


def buf_curl(target: str, protocol: str) -> subprocess.CompletedProcess[str]:
    """A call over HTTP/2."""
    return subprocess.run(
        [
            *(str(BUF), "curl", "--http2-prior-knowledge", "--protocol", protocol),
            *("--unix-socket", target.removeprefix("unix://"), "--schema", str(Path(__file__).parents[2] / "proto")),
            *("--data", "{}", f"http://localhost{METHOD}"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("protocol", ["grpcweb", "connect"])
def test_over_http2_their_streams_are_reset(target: str, protocol: str) -> None:
    assert 0 == buf_curl(target, "grpc").returncode
    done = buf_curl(target, protocol)
    assert done.returncode != 0
    # In the words of the client, or of an earlier version of gRPC.
    assert "INTERNAL_ERROR" in done.stderr or "invalid content-type" in done.stderr


def test_http_1_gets_no_http_response(target: str) -> None:
    client = http.client.HTTPConnection("localhost", timeout=30)
    with closing(client):
        client.sock = socket.socket(socket.AF_UNIX)
        client.sock.connect(target.removeprefix("unix://"))
        headers = {"content-type": "application/grpc-web+proto"}
        # The server may close the connection before it has the whole request.
        with suppress(ConnectionError):
            client.request("POST", METHOD, b"\0\0\0\0\0", headers)
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            client.getresponse()
    with connect(target) as channel:
        assert not ContainerManagerStub(channel).ListManagedContainers(pb.ListManagedContainersRequest()).containers
