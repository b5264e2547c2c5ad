"""Secrets in an archive: a tar that is encrypted for the operator's age public keys (age-encryption.org/v1).

The service has no private key. It cannot decrypt what it has written, and neither can who has the archive.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any

from container_manager.errors import StartupError

_NO_LIBRARY = "it needs the extra 'age': pip install 'botmaker-container-manager[server,age]'"


class Sealer:
    """Encrypts for all of these recipients: each can decrypt by itself."""

    def __init__(self, recipients: Sequence[str]) -> None:
        """``recipients``: age public keys, ``age1…``. Raises :class:`StartupError` for any other text."""
        self._recipients: list[Any] = []
        if recipients:
            try:
                import pyrage
            except ImportError as exc:
                raise StartupError(_NO_LIBRARY) from exc
            self._library: Any = pyrage
            self._recipients = [_recipient(pyrage, text) for text in recipients]

    def __bool__(self) -> bool:
        """Whether there are recipients."""
        return bool(self._recipients)

    def seal(self, secrets: Mapping[str, bytes]) -> bytes:
        """A tar with a file for each secret, encrypted."""
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name, value in sorted(secrets.items()):
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(value), 0o600
                tar.addfile(info, io.BytesIO(value))
        sealed: bytes = self._library.encrypt(content.getvalue(), self._recipients)
        return sealed


def _recipient(pyrage: Any, text: str) -> Any:
    try:
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError as exc:
        if text.upper().startswith("AGE-SECRET-KEY-"):
            # It must not appear in a log.
            raise StartupError(
                "this is a private key; give its public key, age1…, and keep this one elsewhere"
            ) from exc
        raise StartupError(f"{text[:100]!r} is not an age public key (age1…): {exc}") from exc
