"""Image references: their grammar, and the server's allow-list of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from container_manager.errors import FieldViolation, ImageNotAllowedError, InvalidImageReferenceError

# The grammar of github.com/distribution/reference, which the engine itself uses.
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_NAME = rf"(?P<name>(?:{_DOMAIN}/)?{_COMPONENT}(?:/{_COMPONENT})*)"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_REFERENCE = re.compile(rf"{_NAME}(?::{_TAG})?(?:@{_DIGEST})?")
_IMAGE_ID = re.compile(r"sha256:[0-9a-f]{64}")
# A bare 64-digit name would be read as an image id by one engine call and as a repository by another.
_BARE_ID = re.compile(r"[0-9a-f]{64}")
# The engine's word for no image at all; it refuses to pull it.
_RESERVED = ("scratch", "docker.io/library/scratch")
_MAX_NAME_LENGTH = 255


def is_image_id(reference: str) -> bool:
    """Whether ``reference`` is a content id, which names an image on the engine and can't be pulled."""
    return _IMAGE_ID.fullmatch(reference) is not None


def check_image_reference(reference: str) -> None:
    """Raise :class:`InvalidImageReferenceError` unless ``reference`` is ``name[:tag][@digest]`` or an image id."""
    if is_image_id(reference):
        return
    # Length first: the grammar need not see megabytes.
    match = _REFERENCE.fullmatch(reference) if len(reference) <= 2 * _MAX_NAME_LENGTH + 128 else None
    name = "" if match is None or _BARE_ID.fullmatch(reference) else match["name"]
    if not name or len(name) > _MAX_NAME_LENGTH or name in _RESERVED:
        given = ascii(reference[:64])
        raise InvalidImageReferenceError(
            FieldViolation("config.image", f"{given} is not an image reference of the form name[:tag][@digest]")
        )


def check_image_allowed(reference: str, allowed: Sequence[str]) -> None:
    """Raise :class:`ImageNotAllowedError` unless one of the ``allowed`` globs matches. No globs: all are allowed.

    The globs are matched against the reference as the caller wrote it; ``*`` matches ``/`` and ``:`` too.
    """
    if allowed and not any(fnmatchcase(reference, pattern) for pattern in allowed):
        raise ImageNotAllowedError(
            f"image {reference} is not on the server's list of allowed images ({', '.join(allowed)})", image=reference
        )
