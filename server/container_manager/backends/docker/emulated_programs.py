"""Programs that this host's kernel runs by an interpreter of their format, such as those for another machine.

The formats are in ``binfmt_misc`` (Linux ``Documentation/admin-guide/binfmt-misc.rst``), as far as this process sees
it, and may change at any time.
"""

from __future__ import annotations

from pathlib import Path

_FORMATS = Path("/proc/sys/fs/binfmt_misc")
_CONTROLS = ("register", "status")


def is_emulated(path: str, content: bytes) -> bool | None:
    """Whether the kernel has an interpreter for the file at ``path`` that begins with ``content``.

    ``None``: this process does not see the formats, as in most containers.
    """
    try:
        if (_FORMATS / "status").read_text().strip() != "enabled":
            return False
        texts = [each.read_text() for each in _FORMATS.iterdir() if each.name not in _CONTROLS]
    except OSError:
        return None
    return any(_matches(dict(line.partition(" ")[::2] for line in text.splitlines()), path, content) for text in texts)


def _matches(entry: dict[str, str], path: str, content: bytes) -> bool:
    if "enabled" not in entry:
        return False
    if "extension" in entry:
        return path.endswith(entry["extension"])
    magic, offset = bytes.fromhex(entry.get("magic", "")), int(entry.get("offset", "0"))
    mask = bytes.fromhex(entry["mask"]) if "mask" in entry else b"\xff" * len(magic)
    found = content[offset : offset + len(magic)]
    if not magic or len(found) < len(magic):
        return False
    return all((one ^ other) & bits == 0 for one, other, bits in zip(found, magic, mask, strict=True))
