"""The files of a TLS listener: a fault in them gives one sentence at start, which names the file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from container_manager.config import TlsConfig
from container_manager.errors import StartupError
from container_manager.rpc.listeners.server_certificates import ServerCertificates
from tests.support.certificates import Authority, put, server_files
from tests.support.descriptors import opened_below

OURS = Authority()
FILES = ["cert.pem", "key.pem", "client-ca.pem"]
NOT_PEM = [b"", b"garbage", b"\x00\xff" * 100, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]


@pytest.fixture
def config(tmp_path: Path) -> TlsConfig:
    """Valid files."""
    return server_files(tmp_path, OURS)


def refusal(config: TlsConfig) -> str:
    """The sentence of the error that refuses these files."""
    with pytest.raises(StartupError) as caught:
        ServerCertificates(config)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert "BEGIN" not in sentence
    return sentence


def test_good_files_are_credentials(config: TlsConfig) -> None:
    assert isinstance(ServerCertificates(config).credentials(), grpc.ServerCredentials)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_told(config: TlsConfig, tmp_path: Path, name: str) -> None:
    (tmp_path / name).unlink()
    assert f"{tmp_path / name} cannot be read: No such file or directory" in refusal(config)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["directory", "fifo"])
@pytest.mark.parametrize("name", FILES)
def test_what_is_no_file_is_told(config: TlsConfig, tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    (tmp_path / name).unlink()
    make(tmp_path / name)
    assert str(tmp_path / name) in refusal(config)
    assert [] == opened_below(tmp_path)


@pytest.mark.parametrize("content", NOT_PEM, ids=["empty", "text", "bytes", "no certificate"])
@pytest.mark.parametrize("name", FILES)
def test_a_garbled_file_is_told(config: TlsConfig, tmp_path: Path, name: str, content: bytes) -> None:
    put(tmp_path / name, content)
    said = refusal(config)
    assert str(tmp_path / name) in said
    assert "in PEM form" in said


def test_a_huge_file_is_not_read(config: TlsConfig) -> None:
    with config.client_ca.open("ab") as file:
        file.truncate(1_000_001)
    assert "must be a file in PEM form" in refusal(config)


def test_a_key_of_another_certificate_is_told(config: TlsConfig) -> None:
    put(config.key, OURS.signed("127.0.0.1")[1])
    assert f"the TLS key {config.key} is not that of the certificate {config.cert}" == refusal(config)


@pytest.mark.timeout(60)
def test_a_key_with_a_password_is_told_and_the_password_not_asked_for(config: TlsConfig) -> None:
    key = serialization.load_pem_private_key(config.key.read_bytes(), None)
    secret = serialization.BestAvailableEncryption(b"secret")
    put(config.key, key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret))
    assert "without a password" in refusal(config)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_key_of_its_owners_alone_is_taken(config: TlsConfig, mode: int) -> None:
    config.key.chmod(mode)
    ServerCertificates(config)


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644, 0o666, 0o660, 0o620])
def test_a_key_that_others_may_read_or_write_is_refused(config: TlsConfig, mode: int) -> None:
    config.key.chmod(mode)
    assert re.search("may be read or written by others: make it this user's with mode 0600", refusal(config))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize(
    ("owner", "mode", "taken"),
    [("root", 0o640, True), ("root", 0o644, False), ("us", 0o640, False), ("us", 0o600, True), ("other", 0o600, False)],
)
def test_a_group_may_read_the_key_that_is_roots(
    config: TlsConfig, monkeypatch: pytest.MonkeyPatch, owner: str, mode: int, taken: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4_711)
    os.chown(config.key, {"root": 0, "us": 4_711, "other": 4_712}[owner], -1)
    config.key.chmod(mode)
    if taken:
        ServerCertificates(config)
    else:
        assert "may be read or written by others" in refusal(config)


def test_a_link_to_a_key_is_followed_and_its_target_judged(config: TlsConfig, tmp_path: Path) -> None:
    """certbot uses such links for the files that it renews."""
    config.key.rename(tmp_path / "key-1.pem")
    config.key.symlink_to("key-1.pem")
    ServerCertificates(config)
    (tmp_path / "key-1.pem").chmod(0o644)
    assert "may be read or written by others" in refusal(config)


def test_an_rsa_key_is_as_good(config: TlsConfig) -> None:
    leaf = OURS.ca.issue_cert("127.0.0.1", key_type=trustme.KeyType.RSA)
    put(config.cert, leaf.cert_chain_pems[0].bytes())
    put(config.key, leaf.private_key_pem.bytes())
    ServerCertificates(config)
