"""Image references: their grammar, and the server's allow-list."""

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
# What follows the name: a tag, a digest, or both.
_VERSION = re.compile(r"[:@][^/]*$")
_IMAGE_ID = re.compile(r"sha256:[0-9a-f]{64}")
# One engine call reads a bare name of 64 hex digits as an image id, another one as a repository.
_BARE_ID = re.compile(r"[0-9a-f]{64}")
# The engine takes these for the start of an image id if it has no image of this name (moby, imageStore.Search).
_MAYBE_ID = re.compile(r"(?P<algorithm>sha256:)?[0-9a-f]{1,64}")
# The engine reserves this name for an empty image, and refuses to pull it.
_RESERVED = ("scratch", "docker.io/library/scratch")
# A registry's address, such as [fd00::1]:5000. No class of characters with a colon can begin a name.
_BRACKETED_HOST = re.compile(r"\[(?=[^]]*:[^]]*\])")
_MAX_NAME_LENGTH = 255


def is_image_id(reference: str) -> bool:
    """Whether ``reference`` is a content id, which names an image on the engine and cannot be pulled."""
    return _IMAGE_ID.fullmatch(reference) is not None


def content_id_of(reference: str) -> str:
    """The digest of a reference, or the reference if it is an id; empty: it names no content."""
    name, _, digest = reference.partition("@")
    return digest or (name if is_image_id(name) else "")


def check_image_reference(reference: str, field: str = "config.image") -> None:
    """Raise :class:`InvalidImageReferenceError` unless ``reference`` is ``name[:tag][@digest]`` or an image id.

    ``field``: of the request, which the error names.
    """
    if is_image_id(reference):
        return
    # Check the length first, so that the expression never runs over megabytes.
    match = _REFERENCE.fullmatch(reference) if len(reference) <= 2 * _MAX_NAME_LENGTH + 128 else None
    name = "" if match is None or _BARE_ID.fullmatch(reference) else match["name"]
    if not name or len(name) > _MAX_NAME_LENGTH or name in _RESERVED:
        given = ascii(reference[:64])
        raise InvalidImageReferenceError(
            FieldViolation(field, f"{given} is not an image reference of the form name[:tag][@digest]")
        )


def check_image_allowed(reference: str, allowed: Sequence[str]) -> None:
    """Raise :class:`ImageNotAllowedError` unless one of the ``allowed`` globs matches. No globs: all are allowed.

    A glob matches the reference as the caller wrote it. Its registry, its repository, its tag and its digest match
    those of the reference separately, so that ``node:*`` does not allow the registry ``node:443``. ``*`` matches ``/``
    within a repository. The brackets of a registry's IPv6 address stand for themselves; others are a class of
    characters, as in ``1.[0-9]``. A glob that ends in ``*`` and has neither tag nor digest allows all of them; ``*``
    alone allows every image.

    The engine ignores a tag before a digest. So ``node:22.*`` allows no digest; ``node:22.*@sha256:*`` and ``node:*``
    do.

    An image id may belong to an image of any registry: beside ``*``, only globs that begin with ``sha256:`` match one.
    A name of hexadecimal digits without a tag may be the start of an id, and matches only itself.
    """
    if allowed and not matches_any(reference, allowed):
        raise ImageNotAllowedError(
            f"image {reference} is not on the server's list of allowed images ({', '.join(allowed)})", image=reference
        )


def requested_image(requested: str, default: str, allowed: Sequence[str]) -> str:
    """The image that a request means; its own choice must be a reference and, unless it is the default, allowed."""
    if not requested:
        return default
    check_image_reference(requested)
    if requested != default:
        check_image_allowed(requested, allowed)
    return requested


def registry_of(reference: str) -> str:
    """The registry that an image comes from, such as ``localhost:5000``; empty for Docker Hub."""
    return _registry(split_version(reference)[0])


def matches_any(reference: str, patterns: Sequence[str]) -> bool:
    """Whether one of the globs matches, as for :func:`check_image_allowed`."""
    return any(_matches(reference, pattern) for pattern in patterns)


def _matches(reference: str, pattern: str) -> bool:
    if pattern in ("*", reference):
        return True
    if maybe_id := _MAYBE_ID.fullmatch(reference):
        return bool(maybe_id["algorithm"]) and pattern.startswith("sha256:") and fnmatchcase(reference, pattern)
    name, tag, digest = _parts(reference)
    allowed_name, allowed_tag, allowed_digest = _parts(pattern)
    allowed_registry = _registry(allowed_name)
    if _BRACKETED_HOST.match(allowed_registry):
        # The class of an opening bracket alone.
        allowed_registry, allowed_name = (f"[[]{text[1:]}" for text in (allowed_registry, allowed_name))
    if not (allowed_tag or allowed_digest) and pattern.endswith("*"):
        allowed_tag = "*"
    if not allowed_digest and allowed_tag in ("*", ":*"):
        allowed_digest = "*"
        if digest and not tag:
            # A digest stands for any tag.
            allowed_tag = "*"
    return (
        fnmatchcase(_registry(name), allowed_registry)
        and fnmatchcase(name, allowed_name)
        and fnmatchcase(tag, allowed_tag)
        and fnmatchcase(digest, allowed_digest)
    )


def _parts(reference: str) -> tuple[str, str, str]:
    """A reference or glob as its name, its tag with the ``:``, and its digest with the ``@``."""
    name, version = split_version(reference)
    tag, at, digest = version.partition("@")
    return name, tag, at + digest


def split_version(reference: str) -> tuple[str, str]:
    """A reference or glob as its name, and its tag and digest with the ``:`` or ``@`` before them."""
    match = _VERSION.search(reference)
    return (reference, "") if match is None else (reference[: match.start()], match[0])


def _registry(name: str) -> str:
    """The registry in front of a name; empty for Docker Hub's, as the engine reads it (reference.splitDockerDomain)."""
    first, slash, _ = name.partition("/")
    is_registry = slash and (first in ("localhost", "*") or first != first.lower() or set(first) & set(".:"))
    return first if is_registry else ""
