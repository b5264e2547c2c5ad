"""Secrets in archives are for the operator's keys alone."""

from __future__ import annotations

import io
import sys
import tarfile
from typing import Any

import pyrage
import pytest

from container_manager.errors import StartupError
from container_manager.maintenance.sealed_secrets import Sealer

SECRETS = {"GATEWAY_TOKEN": b"token", "BINARY": bytes(range(256)), "EMPTY": b""}


def opened(sealed: bytes, identity: Any) -> dict[str, bytes]:
    """What the operator's own command makes of it: ``age --decrypt | tar -x``."""
    with tarfile.open(fileobj=io.BytesIO(pyrage.decrypt(sealed, [identity]))) as tar:
        assert {0o600} == {each.mode for each in tar.getmembers()}
        files = {each.name: tar.extractfile(each) for each in tar.getmembers()}
        return {name: file.read() for name, file in files.items() if file is not None}


def test_each_recipient_gets_the_same_bytes_and_nobody_else_any() -> None:
    mine, theirs, other = (pyrage.x25519.Identity.generate() for _ in range(3))
    sealed = Sealer([str(mine.to_public()), str(theirs.to_public())]).seal(SECRETS)
    assert SECRETS == opened(sealed, mine) == opened(sealed, theirs)
    with pytest.raises(pyrage.DecryptError):
        opened(sealed, other)
    assert b"token" not in sealed


def test_after_a_change_of_the_key_the_old_one_opens_only_what_was_sealed_before() -> None:
    old, new = (pyrage.x25519.Identity.generate() for _ in range(2))
    before, after = (Sealer([str(each.to_public())]).seal(SECRETS) for each in (old, new))
    assert SECRETS == opened(before, old) == opened(after, new)
    with pytest.raises(pyrage.DecryptError):
        opened(after, old)


@pytest.mark.parametrize("text", ["", "age1xyz", "ssh-ed25519 AAAA", "AGE1"])
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(StartupError, match="is not an age public key"):
        Sealer([text])


def test_a_private_key_is_refused_and_not_repeated() -> None:
    private = str(pyrage.x25519.Identity.generate())
    with pytest.raises(StartupError, match="this is a private key") as caught:
        Sealer([private])
    assert private not in str(caught.value)


def test_without_the_library_a_recipient_is_refused_and_none_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyrage", None)
    assert not Sealer([])
    with pytest.raises(StartupError, match="needs the extra 'age'"):
        Sealer(["age1xyz"])
