"""``botctl`` and TLS listeners: its three options, and for each mistake with them a line that says what to do."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import grpc
import pytest

from botctl.connection import Connection, open_channel
from botctl.exit_codes import ExitCode
from botctl.problems import explain
from botctl.tls_files import TlsPaths
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.config import ServerConfig
from container_manager_client import TlsFiles
from tests.support.certificates import Authority, server_files
from tests.support.memory_backend import MemoryBackend
from tests.support.serving import running_server
from tests.support.tls_clients import ClientFiles, for_servers_only, not_yet_valid
from tests.unit.botctl_runs import complaint, run

BuildConfig = Callable[..., ServerConfig]
Serve = Callable[..., str]
Write = Callable[[TlsFiles], ClientFiles]

OURS = Authority()
OTHERS = Authority()


@pytest.fixture
def client_files(tmp_path: Path) -> Write:
    """Writes a client's files."""

    def write(content: TlsFiles) -> ClientFiles:
        directory = tmp_path / "client"
        directory.mkdir(exist_ok=True)
        return ClientFiles(directory, content)

    return write


@pytest.fixture
def ours(client_files: Write) -> ClientFiles:
    """Files with which the service is reached."""
    return client_files(OURS.client())


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """Where the server makes its token."""
    return tmp_path / "token"


@pytest.fixture
def serve(server_config: BuildConfig, memory: MemoryBackend, token_file: Path, tmp_path: Path) -> Iterator[Serve]:
    """Starts the service with a TLS listener, or with a plain one; gives its target."""
    with ExitStack() as stack:

        def start(name: str = "127.0.0.1", *, plain: bool = False, expired: bool = False) -> str:
            tls = None if plain else server_files(tmp_path, OURS, name, expired=expired)
            config = server_config("tcp://127.0.0.1:0", token_file=token_file, tls=tls)
            return stack.enter_context(running_server(config, backend=memory.opened))[0]

        yield start


def why(target: str, paths: TlsPaths | None) -> tuple[ExitCode, str]:
    """What a run says that gets no connection. A start is not retried."""
    connection = Connection(target, tls=paths)
    with open_channel(connection) as channel, pytest.raises(grpc.RpcError) as caught:
        ContainerManagerStub(channel).StartContainer(pb.StartContainerRequest(), timeout=60)
    problem = explain(caught.value, connection)
    assert 1 == len(problem.message.splitlines())
    return problem.exit_code, problem.message


def test_with_the_three_options_and_the_token_the_service_is_reached(
    serve: Serve, ours: ClientFiles, token_file: Path
) -> None:
    target = serve()
    result = run("list", "--output", "json", "--target", target, "--token-file", str(token_file), *ours.options)
    assert (0, "[]\n") == (result.exit_code, result.stdout), result.stderr


def test_the_variables_are_as_good_as_the_options_which_win(serve: Serve, ours: ClientFiles, token_file: Path) -> None:
    environment = {
        "BOTCTL_TARGET": serve(),
        "BOTCTL_TOKEN_FILE": str(token_file),
        "BOTCTL_TLS_CA": ours.paths.ca,
        "BOTCTL_TLS_CERT": ours.paths.cert,
        "BOTCTL_TLS_KEY": "/nowhere/key",
    }
    assert "/nowhere/key" in complaint(run("list", **environment), ExitCode.USAGE)
    assert 0 == run("list", "--tls-key", ours.paths.key, **environment).exit_code
    assert 0 == run("--tls-key", ours.paths.key, "list", **environment).exit_code


def test_the_token_is_wanted_on_top_of_the_certificate(serve: Serve, ours: ClientFiles) -> None:
    said = complaint(run("list", "--target", serve(), *ours.options), ExitCode.NOT_ALLOWED)
    assert "requires a token: pass --token-file or BOTCTL_TOKEN_FILE" in said


def test_a_listener_without_tls_is_told(serve: Serve, ours: ClientFiles) -> None:
    target = serve(plain=True)
    code, said = why(target, ours.paths)
    assert ExitCode.NO_SERVICE == code
    assert f"{target} is served without TLS: remove --tls-ca, --tls-cert and --tls-key" in said


def test_a_plain_call_at_a_tls_listener_is_told_to_bring_certificates(serve: Serve) -> None:
    target = serve()
    said = complaint(run("list", "--target", target), ExitCode.NOT_ALLOWED)
    assert f"{target} closed the connection; if it is served with TLS, pass --tls-ca, --tls-cert and --tls-key" in said


@pytest.mark.parametrize(
    ("server", "client", "cause"),
    [
        (("127.0.0.1", False), OURS.client(trusts=OTHERS), "CERTIFICATE_VERIFY_FAILED"),
        (("127.0.0.1", True), OURS.client(), "certificate has expired"),
        (("bots.example.org", False), OURS.client(), "Hostname Verification|not in peer certificate"),
    ],
    ids=["another authority", "expired", "another name"],
)
def test_a_certificate_of_the_service_that_cannot_be_verified_is_told_with_grpcs_own_cause(
    serve: Serve, client_files: Write, server: tuple[str, bool], client: TlsFiles, cause: str
) -> None:
    paths = client_files(client).paths
    name, expired = server
    target = serve(name, expired=expired)
    code, said = why(target, paths)
    assert ExitCode.NO_SERVICE == code
    assert re.match(rf"the certificate of {target} is not accepted \(.*({cause}).*\): it must be valid", said), said
    assert said.endswith(f"contain the host of --target, and be signed by an authority in {paths.ca}")


@pytest.mark.parametrize(
    "client",
    [
        OTHERS.client(trusts=OURS),
        OURS.client(expired=True),
        not_yet_valid(OURS),
        for_servers_only(OURS),
    ],
    ids=["another authority", "expired", "not yet valid", "for servers only"],
)
def test_a_client_whose_certificate_is_not_accepted_is_told_what_it_must_be(
    serve: Serve, client_files: Write, client: TlsFiles
) -> None:
    paths = client_files(client).paths
    target = serve()
    code, said = why(target, paths)
    assert ExitCode.NOT_ALLOWED == code
    assert f"{target} closed the connection; if it does not accept the certificate {paths.cert}, pass one as" in said
    assert "the service's --tls-client-ca" in said


@contextmanager
def other_server(context: ssl.SSLContext | None) -> Iterator[str]:
    """A server that is not ours and takes one connection: with TLS as the context has it, or one that speaks HTTP/1."""

    def answer() -> None:
        with suppress(OSError), listener.accept()[0] as raw:
            if context is None:
                raw.recv(1)
                raw.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            else:
                with context.wrap_socket(raw, server_side=True) as connected:
                    connected.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(60)


def test_another_service_with_tls_is_told(ours: ClientFiles, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    files = server_files(tmp_path, OURS)
    context.load_cert_chain(files.cert, files.key)
    with other_server(context) as target:
        code, said = why(target, ours.paths)
    assert (ExitCode.NO_SERVICE, True) == (code, f"the server at {target} is not a container manager" in said), said


def test_an_alert_of_tls_1_2_is_about_our_certificate(client_files: Write, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    files = server_files(tmp_path, OURS)
    context.load_cert_chain(files.cert, files.key)
    context.load_verify_locations(files.client_ca)
    with other_server(context) as target:
        code, said = why(target, client_files(OTHERS.client(trusts=OURS)).paths)
    assert (ExitCode.NOT_ALLOWED, True) == (code, "does not accept the certificate" in said), said


def test_another_service_on_tcp_is_told() -> None:
    with other_server(None) as target:
        code, said = why(target, None)
    assert (ExitCode.NO_SERVICE, True) == (code, f"the server at {target} is not a container manager" in said), said


@pytest.mark.parametrize("target", ["tcp://127.0.0.1:1", "tcp://bots.invalid:50051"])
def test_a_host_or_port_without_a_service_is_told_with_grpcs_own_cause(ours: ClientFiles, target: str) -> None:
    for paths in (ours.paths, None):
        code, said = why(target, paths)
        assert (ExitCode.NO_SERVICE, True) == (code, f"no service answers at {target} (" in said), said
