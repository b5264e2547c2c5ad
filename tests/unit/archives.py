"""States to archive, and archives that no service has made."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from container_manager.maintenance.archive import write_archive
from container_manager.maintenance.backup_store import ARCHIVE, Backup, BackupStore
from container_manager.maintenance.manifest import FILE, STATE_PREFIX, Entry, Manifest, encoded
from container_manager.maintenance.unpacking import unpack
from container_manager.model import ContainerConfig, HealthCheck, PortBinding, Protocol, ResourceLimits
from tests.unit.provisioned import BOT, USER

CONFIG = ContainerConfig(
    image="bot:1",
    ai_provider="anthropic",
    environment={"A": "b"},
    ports=(PortBinding(80, 8080, protocol=Protocol.UDP),),
    command=("run", "it"),
    resources=ResourceLimits(memory_bytes=1 << 30),
    health_check=HealthCheck(("ready",), retries=3),
    labels={"tier": "one"},
)
MANIFEST = Manifest(
    BOT, 1_700_000_000_123_456_789, {"service": "1"}, CONFIG, "sha256:1", ("bot@sha256:1",), was_running=True
)


def opened(path: Path, stack: ExitStack) -> int:
    """A directory as a descriptor."""
    descriptor = os.open(path, os.O_RDONLY)
    stack.callback(os.close, descriptor)
    return descriptor


def written(store: BackupStore, state: Path, backup_id: str = "backup") -> Backup:
    """The archive of a state in a store."""
    with ExitStack() as stack:
        return store.write(backup_id, opened(state, stack), MANIFEST)


def unpacked(store: BackupStore, target: Path, backup_id: str = "backup") -> Manifest:
    """Unpack an archive from a store into a new directory."""
    target.mkdir()
    with ExitStack() as stack:
        return store.unpack(backup_id, opened(target, stack), USER)


def unpacked_bytes(archive: bytes, target: Path) -> Manifest:
    """Unpack an archive into a new directory."""
    target.mkdir()
    with ExitStack() as stack:
        return unpack(io.BytesIO(archive), opened(target, stack), USER)


def file_entry(path: str, content: bytes = b"", **fields: object) -> Entry:
    """A file, as a manifest has it."""
    entry = Entry(path, FILE, 0o600, 0, len(content), hashlib.sha256(content).hexdigest())
    return replace(entry, **fields)  # type: ignore[arg-type]


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = "") -> bytes:
    """A member of a tar."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, len(content)
    return info.tobuf(tarfile.PAX_FORMAT) + content + b"\0" * (-len(content) % 512)


def archive_of(entries: Sequence[Entry], *members: bytes, manifest: Manifest = MANIFEST) -> bytes:
    """An archive whose manifest has these entries, and that then has these members."""
    described = encoded(replace(manifest, entries=entries))
    return gzip.compress(member("manifest.json", described) + b"".join(members) + bytes(1024))


def state_member(path: str, *further: object) -> bytes:
    """A member with a path below the state."""
    return member(STATE_PREFIX + path, *further)  # type: ignore[arg-type]


def put(root: Path, archive: bytes, backup_id: str = "backup") -> None:
    """Put an archive into a backup root, as an operator copies it there."""
    (root / f"{backup_id}{ARCHIVE}").write_bytes(archive)


def archived(state: Path, manifest: Manifest = MANIFEST) -> bytes:
    """The archive of a state."""
    target = io.BytesIO()
    with ExitStack() as stack:
        write_archive(opened(state, stack), manifest, target, io.BytesIO)
    return target.getvalue()


def picture(directory: Path) -> dict[str, tuple[object, ...]]:
    """What an archive keeps of each entry, by its path."""
    seen: dict[str, tuple[object, ...]] = {}
    for path in directory.rglob("*"):
        found = path.lstat()
        if path.is_symlink():
            seen[os.fsdecode(path.relative_to(directory))] = (str(path.readlink()),)
        else:
            content = path.read_bytes() if path.is_file() else None
            seen[os.fsdecode(path.relative_to(directory))] = (found.st_mode & 0o170777, found.st_mtime_ns, content)
    return seen
