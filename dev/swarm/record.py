"""What another process needs to find, use and clear a bed, and the clearing."""

import contextlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from dev.remains import boot_id, remove_groups, start_ticks, wait_for
from dev.swarm.machine import kill

_PREFIX = "bm-swarm-"
_PLACE = Path("/tmp")
_FILE = "bed.json"
_LINK = "runtime"


@dataclass(frozen=True)
class Record:
    """A bed that was started and not stopped; in its runtime directory, to which a link in its directory leads.

    The control group of its containers is named like the runtime directory, and its processes are marked with that.
    """

    runtime: str
    """Short, because the path of a socket must fit into 107 bytes."""
    directory: str
    boot: str
    owner: int
    ticks: int
    """With the owner's process id, names the process that started it: ids are used again."""
    nodes: int
    managers: int
    tree: str
    keep_images: bool

    @classmethod
    def make(cls, directory: Path, *, nodes: int, managers: int, tree: str, keep_images: bool) -> Self:
        """Make the runtime directory for a bed of this process, and write the record."""
        runtime = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_PLACE))
        owner = os.getpid()
        record = cls(
            runtime=str(runtime),
            directory=str(directory),
            boot=boot_id(),
            owner=owner,
            ticks=start_ticks(owner) or 0,
            nodes=nodes,
            managers=managers,
            tree=tree,
            keep_images=keep_images,
        )
        partial = runtime / f"{_FILE}.new"
        partial.write_text(json.dumps(asdict(record)), encoding="utf-8")
        partial.rename(runtime / _FILE)
        link = directory / _LINK
        link.unlink(missing_ok=True)
        link.symlink_to(runtime)
        # Users other than root may enter, to `shared`; each socket has rights of its own.
        runtime.chmod(0o711)
        return record

    @classmethod
    def read(cls, runtime: Path) -> Self | None:
        """The record in this directory; None if there is none, or if it is that of another version of this file."""
        try:
            return cls(**json.loads((runtime / _FILE).read_text(encoding="utf-8")))
        except (FileNotFoundError, TypeError):
            return None

    @classmethod
    def of(cls, directory: Path) -> Self | None:
        """The record of the bed with this directory; None if there is no such bed."""
        return cls.read(directory / _LINK)

    @property
    def owned(self) -> bool:
        """Whether the process that started it is alive."""
        return self.boot == boot_id() and start_ticks(self.owner) == self.ticks

    def clear(self) -> None:
        """End all its processes, and remove all its files except the logs, and the images if they are kept."""
        runtime, directory = Path(self.runtime), Path(self.directory)
        kill(f"{runtime}/")
        wait_for(lambda: not remove_groups(runtime.name), 10)  # the kernel takes a moment to empty them
        images = () if self.keep_images else ("registry", "n[0-9]*/data")
        for pattern in ("n[0-9]*/local", "n[0-9]*/data/swarm", *images):
            for path in directory.glob(pattern):
                shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            if (directory / _LINK).readlink() == runtime:
                (directory / _LINK).unlink()
        # Last: as long as the record is there, another process can go on with this.
        shutil.rmtree(runtime, ignore_errors=True)


def clear_abandoned() -> list[Record]:
    """Clear the beds whose owner is dead, as far as nobody else has; return their records."""
    found = (Record.read(runtime) for runtime in _PLACE.glob(f"{_PREFIX}*"))
    abandoned = [record for record in found if record is not None and not record.owned]
    for record in abandoned:
        record.clear()
    return abandoned
