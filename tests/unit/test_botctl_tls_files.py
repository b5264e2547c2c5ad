"""``--tls-ca``, ``--tls-cert`` and ``--tls-key``: faults in the files are reported before anything is sent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from botctl.connection import Connection, open_channel
from botctl.exit_codes import ExitCode
from tests.support.certificates import CLIENT, Authority, put
from tests.support.tls_clients import ClientFiles
from tests.unit.botctl_runs import complaint, run

OURS = Authority()
# A port without a listener.
NOWHERE = "tcp://127.0.0.1:1"


@pytest.fixture
def ours(tmp_path: Path) -> ClientFiles:
    """Valid files."""
    return ClientFiles(tmp_path, OURS.client())


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """A token."""
    path = tmp_path / "token"
    path.write_text("token-of-a-test")
    return path


def test_a_token_for_another_machine_wants_tls_first(token_file: Path) -> None:
    result = run("list", "--target", "tcp://192.0.2.1:50051", "--token-file", str(token_file))
    said = complaint(result, ExitCode.USAGE)
    assert "without TLS the token would be sent in plain text: pass a CA, a certificate and a key too" in said


def test_with_tls_a_token_goes_to_any_host(ours: ClientFiles, token_file: Path) -> None:
    open_channel(Connection("tcp://bots.example.org:50051", str(token_file), ours.paths)).close()


@pytest.mark.parametrize("missing", ["--tls-ca", "--tls-cert", "--tls-key"])
@pytest.mark.parametrize("how", ["left out", "empty"])
def test_two_of_the_three_options_report_the_missing_one(ours: ClientFiles, missing: str, how: str) -> None:
    options = ours.options
    place = options.index(missing)
    options[place : place + 2] = [missing, ""] if how == "empty" else []
    said = complaint(run("list", "--target", NOWHERE, *options), ExitCode.USAGE)
    assert f"go together: give {missing} (or BOTCTL_{missing[2:].replace('-', '_').upper()}) as well, or none" in said


def test_three_empty_options_do_not_mean_a_plain_connection() -> None:
    result = run("list", "--target", NOWHERE, "--tls-ca", "", "--tls-cert", "", "--tls-key", "")
    assert "go together" in complaint(result, ExitCode.USAGE)


def test_a_unix_socket_takes_no_tls(ours: ClientFiles) -> None:
    said = complaint(run("list", "--target", "unix:///run/s.sock", *ours.options), ExitCode.USAGE)
    assert "is a unix socket, which has no TLS: remove --tls-ca, --tls-cert and --tls-key" in said


def password_protected() -> bytes:
    """A key that is protected by a password."""
    return rsa.generate_private_key(65_537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password-of-a-test"),
    )


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("ca", None, "there is no TLS CA file {path}; --tls-ca names the CA of the service's certificate"),
        ("cert", None, "there is no TLS certificate {path}; --tls-cert names this client's certificate"),
        ("key", None, "there is no TLS key {path}; --tls-key names the key of the certificate"),
        ("ca", b"\x30\x82", "the TLS CA file {path} has no certificate in PEM form; name another"),
        ("cert", b"", "the TLS certificate {path} has no certificate in PEM form"),
        ("cert", OURS.signed(CLIENT)[1], "the TLS certificate {path} has no certificate in PEM form"),
        ("key", b"key", "the TLS key {path} is not a private key in PEM form"),
        ("key", password_protected(), "the TLS key {path} is not a private key in PEM form without a password"),
        ("key", OURS.signed(CLIENT)[1], "the TLS key {path} does not match the certificate"),
        (
            "key",
            trustme.CA(key_type=trustme.KeyType.RSA).private_key_pem.bytes(),
            "the TLS key {path} does not match the certificate",
        ),
    ],
    ids=[
        "no CA",
        "no certificate",
        "no key",
        "a CA in DER form",
        "an empty certificate",
        "a key for a certificate",
        "no PEM",
        "a password",
        "another key",
        "a key of another kind",
    ],
)
def test_an_unusable_file_is_named_before_anything_is_sent(
    ours: ClientFiles, name: str, content: bytes | None, said: str
) -> None:
    path = ours.directory / name
    path.unlink()
    if content is not None:
        put(path, content)
    assert said.format(path=path) in complaint(run("list", "--target", NOWHERE, *ours.options), ExitCode.USAGE)


def test_a_directory_is_no_file(ours: ClientFiles) -> None:
    (ours.directory / "ca").unlink()
    (ours.directory / "ca").mkdir()
    assert "is not a file" in complaint(run("list", "--target", NOWHERE, *ours.options), ExitCode.USAGE)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_an_unreadable_key_is_reported(ours: ClientFiles) -> None:
    # Only root may enter the parent directories, so the files are named relative to the working directory.
    inside = Path.cwd()
    os.chdir(ours.directory)
    ours.directory.chmod(0o755)
    for name in ("ca", "cert"):
        (ours.directory / name).chmod(0o644)
    os.seteuid(65_534)
    try:
        result = run("list", "--target", NOWHERE, "--tls-ca", "ca", "--tls-cert", "cert", "--tls-key", "key")
    finally:
        os.seteuid(0)
        os.chdir(inside)
    said = complaint(result, ExitCode.NOT_ALLOWED)
    assert "the TLS key key cannot be read by this user; ask its owner for a copy, or use sudo" in said
