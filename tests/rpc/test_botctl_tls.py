"""``botctl`` and TLS listeners: its three options, and for each mistake with them a line that says what to do."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from botctl.connection import Connection
from botctl.exit_codes import ExitCode
from botctl.reachability import why_unreachable
from botctl.tls_files import TlsPaths
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
    """What a run that got no connection says, without the tries that come before."""
    code, said = why_unreachable(Connection(target, tls=paths), "handshake failed")
    assert 1 == len(said.splitlines())
    return code, said


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
    said = f"{target} is served without TLS: remove --tls-ca, --tls-cert and --tls-key"
    assert said in complaint(run("list", "--target", target, *ours.options), ExitCode.NO_SERVICE)


def test_a_plain_call_at_a_tls_listener_is_told_to_bring_certificates(serve: Serve) -> None:
    target = serve()
    said = complaint(run("list", "--target", target), ExitCode.NOT_ALLOWED)
    assert f"{target} is served with TLS: pass --tls-ca, --tls-cert and --tls-key" in said


def test_a_server_of_another_authority_is_told(serve: Serve, client_files: Write) -> None:
    files = client_files(OURS.client(trusts=OTHERS))
    target = serve()
    said = complaint(run("list", "--target", target, *files.options), ExitCode.NO_SERVICE)
    assert f"the certificate of {target} is not signed by an authority in {files.paths.ca}" in said
    assert "pass the authority that signed it as --tls-ca" in said


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_of_another_name_is_told_with_the_name_that_it_has(serve: Serve, ours: ClientFiles, host: str) -> None:
    target = serve("bots.example.org").replace("127.0.0.1", host)
    code, said = why(target, ours.paths)
    assert ExitCode.NO_SERVICE == code
    assert f"is not for {host} but for bots.example.org; use that name in --target" in said


def test_a_server_whose_certificate_has_expired_is_told(serve: Serve, ours: ClientFiles) -> None:
    code, said = why(serve(expired=True), ours.paths)
    assert (ExitCode.NO_SERVICE, True) == (code, "has expired; the operator of the service must renew it" in said), said


def test_a_client_of_another_authority_is_told(serve: Serve, client_files: Write) -> None:
    files = client_files(OTHERS.client(trusts=OURS))
    target = serve()
    said = complaint(run("list", "--target", target, *files.options), ExitCode.NOT_ALLOWED)
    assert f"{target} does not accept the certificate {files.paths.cert}: pass one as --tls-cert" in said
    assert "the service's --tls-client-ca" in said


@pytest.mark.parametrize(
    ("client", "said"),
    [
        (OURS.client(expired=True), "has expired: have it renewed, and pass the new one as --tls-cert"),
        (not_yet_valid(OURS), "is not valid yet: correct this machine's clock"),
        (for_servers_only(OURS), "is not for clients: get one with the extended key usage clientAuth"),
    ],
    ids=["expired", "not yet valid", "for servers only"],
)
def test_what_is_wrong_with_the_clients_own_certificate_is_told(
    serve: Serve, client_files: Write, client: TlsFiles, said: str
) -> None:
    files = client_files(client)
    target = serve()
    code, heard = why(target, files.paths)
    assert ExitCode.NOT_ALLOWED == code
    assert f"{target} does not accept the certificate {files.paths.cert}, which {said}" in heard


def test_a_service_that_takes_the_certificate_and_does_not_answer_is_told(serve: Serve, ours: ClientFiles) -> None:
    code, said = why(serve(), ours.paths)
    assert (ExitCode.NO_SERVICE, True) == (code, "did not answer (handshake failed)" in said), said


@contextmanager
def other_server(context: ssl.SSLContext | None) -> Iterator[str]:
    """A server that is not ours: with TLS as the context has it, or one that closes each connection."""

    def answer() -> None:
        with suppressed(), listener.accept()[0] as raw:
            if context is not None:
                with context.wrap_socket(raw, server_side=True) as connected:
                    connected.recv(1)

    def suppressed() -> ExitStack:
        stack = ExitStack()
        stack.push(lambda kind, *_: kind is not None and issubclass(kind, OSError))
        return stack

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
    assert (ExitCode.NO_SERVICE, True) == (code, f"the TLS server at {target} is not a container manager" in said), said


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


def test_a_server_that_closes_amid_the_handshake_is_told(ours: ClientFiles) -> None:
    with other_server(None) as target:
        code, said = why(target, ours.paths)
    assert (ExitCode.NO_SERVICE, True) == (code, "does not finish the TLS handshake" in said), said


@pytest.mark.parametrize("error", [socket.gaierror(-2, "unknown"), UnicodeError("label too long")])
def test_a_host_that_is_not_known_is_told(ours: ClientFiles, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def unknown(*_: object) -> None:
        raise error

    monkeypatch.setattr(socket, "create_connection", unknown)
    for paths in (ours.paths, None):
        code, said = why("tcp://bots.example.org:50051", paths)
        assert (ExitCode.NO_SERVICE, True) == (code, "the host bots.example.org is unknown" in said), said
