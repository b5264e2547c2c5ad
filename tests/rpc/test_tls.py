"""TLS listeners: both sides show a certificate, calls a token too, and certificates are renewed without a restart."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.rpc.listeners.server_certificates import ServerCertificates
from container_manager_client import TlsFiles, connect, connect_aio, error_info
from tests.rpc.conftest import ServeOn
from tests.support.calls import Calls, fails_with
from tests.support.certificates import Authority, put, server_files
from tests.support.child_environment import child_environment

OURS = Authority()
OTHERS = Authority()


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """Where the server makes its token."""
    return tmp_path / "token"


@pytest.fixture
def target(serve_on: ServeOn, token_file: Path, tmp_path: Path) -> Iterator[str]:
    """A TLS listener."""
    with serve_on("tcp://127.0.0.1:0", token_file=token_file, tls=server_files(tmp_path, OURS)) as addresses:
        yield addresses[0]


def probe(target: str, tls: TlsFiles | None) -> str:
    """What a probe over a new connection hears: that something answers, or why nothing does."""
    with connect(target, tls=tls) as channel:
        try:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
        except grpc.RpcError as exc:
            return f"{error_info(exc).code.name}: {error_info(exc).message}"
    return "OK"


def test_with_the_certificate_and_the_token_calls_are_served(target: str, token_file: Path) -> None:
    with connect(target, token=token_file.read_text().strip(), tls=OURS.client()) as channel:
        assert Calls(ContainerManagerStub(channel)).list() == []


def test_the_aio_client_is_served_as_well(target: str, token_file: Path) -> None:
    token = token_file.read_text().strip()

    async def call() -> pb.ListManagedContainersResponse:
        async with connect_aio(target, token=token, tls=OURS.client()) as channel:
            return await ContainerManagerStub(channel).ListManagedContainers(pb.ListManagedContainersRequest())

    assert pb.ListManagedContainersResponse() == asyncio.run(call())


def test_a_certificate_without_the_token_lets_nobody_in(target: str) -> None:
    with connect(target, tls=OURS.client()) as channel, fails_with("UNAUTHENTICATED", "UNAUTHENTICATED"):
        Calls(ContainerManagerStub(channel)).list()


def test_paths_are_as_good_as_bytes(target: str, tmp_path: Path) -> None:
    client = OURS.client()
    paths = [tmp_path / "c-ca", tmp_path / "c-cert", tmp_path / "c-key"]
    for path, content in zip(paths, (client.ca, client.cert, client.key), strict=True):
        assert isinstance(content, bytes)
        put(path, content)
    assert "OK" == probe(target, TlsFiles(paths[0], str(paths[1]), paths[2]))


def test_renewed_files_of_a_client_are_used_by_the_next_channel_and_not_by_an_open_one(
    target: str, tmp_path: Path
) -> None:
    paths = [tmp_path / name for name in ("c-ca", "c-cert", "c-key")]
    tls = TlsFiles(*paths)

    def written(client: TlsFiles) -> None:
        for path, content in zip(paths, (client.ca, client.cert, client.key), strict=True):
            assert isinstance(content, bytes)
            put(path, content)

    written(OURS.client(expired=True))
    with connect(target, tls=tls) as opened_before:
        assert probe(target, tls).startswith("UNAVAILABLE: ")
        written(OURS.client())
        assert "OK" == probe(target, tls)
        with pytest.raises(grpc.RpcError):
            health_pb2_grpc.HealthStub(opened_before).Check(health_pb2.HealthCheckRequest(), timeout=60)


@pytest.mark.parametrize(
    "client",
    [
        OTHERS.client(trusts=OURS),
        OURS.client(expired=True),
        OURS.client(trusts=OTHERS),
        None,
    ],
    ids=["another authority's client", "an expired client", "a client that trusts another authority", "plain text"],
)
def test_a_peer_that_cannot_be_verified_gets_no_connection(target: str, client: TlsFiles | None) -> None:
    assert "OK" == probe(target, OURS.client())
    assert probe(target, client).startswith("UNAVAILABLE: ")


def test_a_client_without_a_certificate_gets_no_connection(target: str) -> None:
    credentials = grpc.ssl_channel_credentials(OURS.pem)
    with (
        grpc.secure_channel(target.removeprefix("tcp://"), credentials) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("wrong", ["name", "date"])
def test_the_client_refuses_a_server_with_another_name_or_an_expired_certificate(
    serve_on: ServeOn, token_file: Path, tmp_path: Path, wrong: str
) -> None:
    name, expired = ("elsewhere.example.org", False) if wrong == "name" else ("127.0.0.1", True)
    tls = server_files(tmp_path, OURS, name, expired=expired)
    with serve_on("tcp://127.0.0.1:0", token_file=token_file, tls=tls) as addresses:
        assert probe(addresses[0], OURS.client()).startswith("UNAVAILABLE: ")


def test_a_certificate_of_the_servers_authority_is_none_of_the_clients_authority(
    serve_on: ServeOn, token_file: Path, tmp_path: Path
) -> None:
    tls = server_files(tmp_path, OURS, clients=OTHERS)
    with serve_on("tcp://127.0.0.1:0", token_file=token_file, tls=tls) as addresses:
        assert probe(addresses[0], OURS.client()).startswith("UNAVAILABLE: ")
        assert "OK" == probe(addresses[0], OTHERS.client(trusts=OURS))


def test_insecure_no_auth_leaves_the_token_out_and_the_certificates_in(
    serve_on: ServeOn, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serve_on("tcp://127.0.0.1:0", insecure_no_auth=True, tls=server_files(tmp_path, OURS)) as addresses:
        with connect(addresses[0], tls=OURS.client()) as channel:
            assert Calls(ContainerManagerStub(channel)).list() == []
        assert probe(addresses[0], OTHERS.client(trusts=OURS)).startswith("UNAVAILABLE: ")
    assert "whoever has a client certificate can control every bot" in caplog.text


def test_the_unix_socket_beside_has_no_tls(
    serve_on: ServeOn, token_file: Path, session_dir: Path, tmp_path: Path
) -> None:
    unix = f"unix://{session_dir}/tls/s.sock"
    with serve_on("tcp://127.0.0.1:0", unix, token_file=token_file, tls=server_files(tmp_path, OURS)):
        assert "OK" == probe(unix, None)


def test_renewed_files_are_used_by_the_next_connection_and_open_ones_go_on(
    target: str, token_file: Path, tmp_path: Path
) -> None:
    with connect(target, token=token_file.read_text().strip(), tls=OURS.client()) as channel:
        calls = Calls(ContainerManagerStub(channel))
        assert calls.list() == []
        server_files(tmp_path, OTHERS)
        assert "OK" == probe(target, OTHERS.client())
        assert probe(target, OURS.client()).startswith("UNAVAILABLE: ")
        assert calls.list() == []


def test_files_that_cannot_be_used_are_told_once_and_the_ones_before_go_on(
    target: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path / "key.pem", OTHERS.signed("127.0.0.1")[1])
    for _ in range(2):
        assert "OK" == probe(target, OURS.client())
    assert 1 == caplog.text.count("is not that of the certificate")
    server_files(tmp_path, OTHERS)
    assert "OK" == probe(target, OTHERS.client())


def test_unchanged_files_are_not_read_again(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ServerCertificates(server_files(tmp_path, OURS))
    assert files.replaced() is None
    server_files(tmp_path, OURS)
    assert files.replaced() is not None
    assert files.replaced() is None


IN_A_NETWORK_OF_ITS_OWN = """
import pathlib, subprocess, sys, tempfile
subprocess.run("ip link set lo up && ip address add 192.0.2.1/32 dev lo", shell=True, check=True)
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig, ServerConfig
from tests.rpc.test_tls import OURS, probe
from tests.support.certificates import server_files
from tests.support.serving import running_server
with tempfile.TemporaryDirectory() as name:
    root = pathlib.Path(name)
    service = BackendConfig(RootDirectory(root, root), docker_host="unix:///nowhere.sock")
    tls = server_files(root, OURS, "192.0.2.1")
    for listen in ("tcp://192.0.2.1:0", "tcp://0.0.0.0:0"):
        config = ServerConfig(service, (listen,), token_file=root / "token", tls=tls)
        with running_server(config) as addresses:
            target = addresses[0].replace("0.0.0.0", "192.0.2.1")
            print(probe(target, OURS.client()), probe(target, None).partition(":")[0])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a network")
def test_with_tls_another_address_than_loopback_is_served() -> None:
    """In a network namespace, which no other machine can reach."""
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", IN_A_NETWORK_OF_ITS_OWN],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    heard = [line for line in done.stdout.splitlines() if line.startswith(("OK", "UNAVAILABLE"))]
    assert ["OK UNAVAILABLE"] * 2 == heard, done.stdout + done.stderr
