"""What an archive of a bot's state contains, as the archive itself says in its first member."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from container_manager.errors import BackupCorruptError
from container_manager.maintenance.config_document import config_from_document, config_to_document
from container_manager.model import ContainerConfig
from container_manager.validation import is_bot_id

MANIFEST_NAME = "manifest.json"
SECRETS_NAME = "secrets.tar.age"
STATE_PREFIX = "state/"
"""What stands before each path in the archive."""
FORMAT = 1
MAX_ENTRIES = 500_000
MAX_BYTES = 1 << 38
"""All files together: 256 GiB."""
MAX_PATH_BYTES = 4096
MAX_DEPTH = 64
MAX_SECRETS_BYTES = 64 * 1024 * 1024
MAX_MANIFEST_BYTES = 512 * 1024 * 1024

FILE, DIRECTORY, LINK = "file", "directory", "link"

ENTRIES = '\n "entries": ['
"""Where the entries begin, which end the manifest. No string in JSON has a line break."""
_SPACE, _COMMA, _END = re.compile(r"\s*"), re.compile(r"\s*,\s*"), re.compile(r"\s*\]\s*\}\s*")

_MAX_TIME_NS = 1 << 63
_SHA256 = re.compile("[0-9a-f]{64}")
_MAX_PART_BYTES = 255  # NAME_MAX of Linux' file systems


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, directory or symbolic link of the state."""

    path: str
    """Relative; bytes that are not UTF-8 as surrogate escapes."""
    kind: str
    mode: int = 0
    mtime_ns: int = 0
    size: int = 0
    sha256: str = ""
    """Of a file."""
    target: str = ""
    """Of a link."""


@dataclass(frozen=True)
class Manifest:
    """An archive's description."""

    bot_id: str
    create_time_ns: int
    versions: Mapping[str, str]
    """Of the service that has made the archive, by its name; for a person."""
    config: ContainerConfig | None = None
    """``None``: the bot had no container."""
    image_id: str = ""
    image_digests: Sequence[str] = ()
    """References of the image by content, from its registries."""
    was_running: bool = False
    secrets_bytes: int = 0
    """The size of the encrypted secrets."""
    secrets_sha256: str = ""
    """Empty: the archive has none."""
    left_out: Sequence[str] = ()
    """Paths that the archive does not have: sockets, pipes, devices, and links that lead out of the state."""
    entries: Sequence[Entry] = field(default_factory=list)
    """In the archive's order: a directory before what is in it."""

    @property
    def size_bytes(self) -> int:
        """The size of all files."""
        return sum(entry.size for entry in self.entries)


def encoded(manifest: Manifest) -> bytes:
    """The manifest as JSON."""
    document = {
        "format": FORMAT,
        **{each.name: getattr(manifest, each.name) for each in fields(manifest)},
        "config": None if manifest.config is None else config_to_document(manifest.config),
        "entries": [],
    }
    # A line for each entry: all of them as one document would take ten times the memory.
    content = io.BytesIO(json.dumps(document, indent=1).removesuffix("]\n}").encode())
    content.seek(0, io.SEEK_END)
    separator = "\n  "
    for entry in manifest.entries:
        content.write(f"{separator}{json.dumps(_entry_document(entry))}".encode())
        separator = ",\n  "
    content.write(b"\n ]\n}")
    return content.getvalue()


def decoded(content: bytes) -> Manifest:
    """The inverse of :func:`encoded`. Raises :class:`BackupCorruptError` for anything that no archive may have."""
    try:
        text = content.decode()
        entries = text.index(ENTRIES) + len(ENTRIES)
        document = json.loads(text[:entries] + "]}")
        if document.pop("format") != FORMAT:
            raise BackupCorruptError("the archive has another format than this version of the service reads")
        config = document["config"]
        manifest = Manifest(
            **{
                **document,
                "config": None if config is None else config_from_document(config),
                "entries": [Entry(**entry) for entry in _entries(text, entries)],
            }
        )
        _check(manifest)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        raise BackupCorruptError("the archive's manifest cannot be read") from exc
    return manifest


def _entries(text: str, position: int) -> Iterator[dict[str, Any]]:
    """The entries of a manifest, each decoded by itself: the decoder lets no other thread run meanwhile."""
    decode, before = json.JSONDecoder().raw_decode, _SPACE
    while not _END.fullmatch(text, position):
        separator = before.match(text, position)
        if separator is None:
            raise ValueError("there is no comma between two entries")
        entry, position = decode(text, separator.end())
        yield entry
        before = _COMMA


def leads_out(path: str, target: str) -> bool:
    """Whether a symbolic link may lead out of the state: by its text, whatever is in the state."""
    if target.startswith("/") or not target:
        return True
    depth = path.count("/")
    for part in target.split("/"):
        if part == "..":
            depth -= 1
        elif part not in ("", "."):
            depth += 1
        if depth < 0:
            return True
    return False


def _entry_document(entry: Entry) -> dict[str, Any]:
    document = {"path": entry.path, "kind": entry.kind, "mode": entry.mode, "mtime_ns": entry.mtime_ns}
    if entry.kind == FILE:
        document |= {"size": entry.size, "sha256": entry.sha256}
    elif entry.kind == LINK:
        document |= {"target": entry.target}
    return document


def _check(manifest: Manifest) -> None:
    time_ns = manifest.create_time_ns
    if not is_bot_id(manifest.bot_id) or not isinstance(time_ns, int) or not 0 <= time_ns < _MAX_TIME_NS:
        raise BackupCorruptError("the archive's manifest names no bot or no time")
    _check_secrets(manifest)
    # A list shows them: one archive must not spoil the others.
    for text in (manifest.image_id, "" if manifest.config is None else manifest.config.image):
        text.encode()
    if len(manifest.entries) > MAX_ENTRIES:
        raise BackupCorruptError(f"the archive has {len(manifest.entries)} files; at most {MAX_ENTRIES} are restored")
    directories = {""}
    seen = set()
    size = 0
    for entry in manifest.entries:
        if problem := _problem(entry, directories):
            raise BackupCorruptError(f"the archive has {entry.path[:200]!a}, which {problem}")
        if entry.path in seen:
            raise BackupCorruptError(f"the archive has {entry.path[:200]!a} twice")
        seen.add(entry.path)
        if entry.kind == DIRECTORY:
            directories.add(entry.path)
        size += entry.size
        if size > MAX_BYTES:
            raise BackupCorruptError(f"the archive's files have more than {MAX_BYTES} bytes")


def _check_secrets(manifest: Manifest) -> None:
    size, sha256 = manifest.secrets_bytes, manifest.secrets_sha256
    if (size or sha256) and not (0 < size <= MAX_SECRETS_BYTES and _SHA256.fullmatch(sha256)):
        raise BackupCorruptError("the archive's manifest describes impossible secrets")


def _problem(entry: Entry, directories: set[str]) -> str | None:
    """What makes an entry one that no state may get."""
    parts = entry.path.split("/")
    is_link = entry.kind == LINK
    problems = {
        "leads out of the state": any(part in ("", ".", "..") for part in parts)
        or "\0" in entry.path + entry.target
        or (is_link and leads_out(entry.path, entry.target)),
        "is nested too deep": len(parts) > MAX_DEPTH + 1 or len(_bytes(entry.path)) > MAX_PATH_BYTES,
        "has too long a name": any(len(_bytes(part)) > _MAX_PART_BYTES for part in parts),
        "is in no directory of the archive": "/".join(parts[:-1]) not in directories,
        "has an impossible mode or size": not 0 <= entry.mode <= 0o777 or entry.size < 0,
        "has an impossible time": abs(entry.mtime_ns) >= 1 << 63,
        "has no checksum": entry.kind == FILE and not _SHA256.fullmatch(entry.sha256),
        "is neither a file, a directory nor a link": entry.kind not in (FILE, DIRECTORY, LINK),
    }
    return next((problem for problem, is_so in problems.items() if is_so), None)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
