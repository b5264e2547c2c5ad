"""The documents, their fenced blocks, and the commands in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).parents[2]
# Not documents of the project: those of environments and of tools.
PLACES = ("*.md", "docs/**/*.md", "deploy/**/*.md", "examples/**/*.md", "images/**/*.md")
DOCUMENTS = sorted(
    path
    for path in {path.relative_to(TOP).as_posix() for place in PLACES for path in TOP.glob(place)}
    if "node_modules" not in path
)

EXECUTED = ("sh", "console", "python")
SHOWN = ("text", "mermaid", "json", "yaml", "ini", "toml", "proto", "promql", "typescript")

_FENCE = re.compile(r"^( *)(```+)(.*)$")
_HEADING = re.compile(r"^(#{1,6}) +(.*?)(?: +#+)?$")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    document: str
    line: int
    """Number of its first line, from 1."""
    language: str
    text: str

    @property
    def place(self) -> str:
        """``file:line``, as editors accept it."""
        return f"{self.document}:{self.line}"


@dataclass(frozen=True)
class Step:
    """A command of a console block, and the output that the document shows."""

    command: str
    shown: list[str]


def read(document: str) -> str:
    """A document's text."""
    return (TOP / document).read_text(encoding="utf-8")


def blocks(document: str) -> list[Block]:
    """All blocks of a document, in order."""
    return [each for each in _parts(document) if isinstance(each, Block)]


def prose(document: str) -> list[str]:
    """The lines outside of blocks."""
    return [each for each in _parts(document) if isinstance(each, str)]


def anchors(document: str) -> set[str]:
    """The anchors of a document's headings, as GitHub forms them."""
    found: set[str] = set()
    for heading in filter(None, map(_HEADING.match, prose(document))):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading[2]).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        again = (f"{slug}-{number}" for number in range(1, 100))
        found.add(slug if slug not in found else next(each for each in again if each not in found))
    return found


def steps(block: Block) -> list[Step]:
    """The steps of a console block: a command starts with ``$`` and continues on indented lines after a backslash."""
    found: list[Step] = []
    lines = iter(block.text.splitlines())
    for line in lines:
        if not line.startswith("$ "):
            assert found, f"{block.place}: a console block begins with a command"
            found[-1].shown.append(line)
            continue
        command = line.removeprefix("$ ")
        while command.endswith("\\"):
            command += "\n" + next(lines)
        found.append(Step(command, []))
    return found


def _parts(document: str) -> Iterator[Block | str]:
    """Blocks, and lines outside of blocks."""
    fence, language, begun, kept = "", "", 0, []
    for number, line in enumerate(read(document).splitlines(), 1):
        match = _FENCE.match(line)
        if fence:
            if match and match[2] == fence and not match[3].strip():
                yield Block(document, begun, language, "\n".join(kept) + "\n")
                fence = ""
            else:
                kept.append(line)
        elif match:
            fence, language, begun, kept = match[2], match[3].strip(), number + 1, []
        else:
            yield line
    assert not fence, f"{document}:{begun}: the block has no end"
