"""Results as aligned text, as Markdown, as JSON and as a drawing."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.chart import Bars, svg

OUTPUT = Path(__file__).resolve().parent / "output"


@dataclass(frozen=True)
class Table:
    """Rows of text under a head; the first column is the rows' name."""

    title: str
    head: list[str]
    rows: list[list[str]]

    def as_text(self) -> str:
        widths = [max(len(line[column]) for line in (self.head, *self.rows)) for column in range(len(self.head))]
        lines = [
            "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
            for line in (self.head, *self.rows)
        ]
        return "\n".join([self.title, "-" * max(map(len, (self.title, *lines))), *lines])

    def as_markdown(self) -> str:
        rule = [":--", *("--:" for _ in self.head[1:])]
        return "\n".join(
            [f"### {self.title}", "", *(f"| {' | '.join(row)} |" for row in (self.head, rule, *self.rows))]
        )


@dataclass(frozen=True)
class Aim:
    """Something that was aimed at; missing it is no failure of the run."""

    what: str
    measured: str
    limit: str
    met: bool

    def row(self) -> list[str]:
        """As a row of a table."""
        return [self.what, self.measured, self.limit, "met" if self.met else "NOT MET"]


@dataclass
class Part:
    """The results of one module that measures."""

    name: str
    method: str
    """What is measured and how: the module's docstring."""
    tables: list[Table] = field(default_factory=list)
    aims: list[Aim] = field(default_factory=list)
    bars: list[Bars] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    samples: dict[str, Any] = field(default_factory=dict)
    """Every single value, as JSON."""


def machine(engine_version: str) -> dict[str, str]:
    """What the numbers depend on."""
    versions = {name: importlib.metadata.version(name) for name in ("docker", "grpcio", "protobuf")}
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "CPUs": str(os.cpu_count()),
        "load average before": load(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Docker Engine": engine_version,
        "Python": platform.python_version(),
        **versions,
    }


def load() -> str:
    """The machine's load averages of 1, 5 and 15 minutes: above the number of CPUs, others disturbed the run."""
    return " ".join(f"{average:.2f}" for average in os.getloadavg())


def publish(parts: Sequence[Part], circumstances: dict[str, str]) -> None:
    """Print the tables and aims, and write ``results.md``, ``.json`` and ``.svg`` to :data:`OUTPUT`."""
    aims = Table("Aims", ["", "measured", "aim", ""], [aim.row() for part in parts for aim in part.aims])
    tables = [table for part in parts for table in part.tables] + ([aims] if aims.rows else [])
    for table in tables:
        print(f"\n{table.as_text()}")
    for note in (note for part in parts for note in part.notes):
        print(f"\nNote: {note}")
    OUTPUT.mkdir(exist_ok=True)
    (OUTPUT / "results.md").write_text(_markdown(parts, aims, circumstances))
    (OUTPUT / "results.json").write_text(json.dumps(_document(parts, circumstances), indent=1) + "\n")
    bars = [each for part in parts for each in part.bars]
    if bars:
        (OUTPUT / "results.svg").write_text(svg(bars))
    print(f"\nWritten to {_relative(OUTPUT / 'results.md')}, results.json{' and results.svg' if bars else ''}")


def _markdown(parts: Sequence[Part], aims: Table, circumstances: dict[str, str]) -> str:
    blocks = ["# Benchmark results", "\n".join(f"- {key}: {value}" for key, value in circumstances.items())]
    if aims.rows:
        blocks.append(aims.as_markdown())
    for part in parts:
        blocks += [f"## {part.name}", part.method.strip()]
        blocks += [table.as_markdown() for table in part.tables]
        blocks += [f"Note: {note}" for note in part.notes]
    return "\n\n".join(blocks) + "\n"


def _document(parts: Sequence[Part], circumstances: dict[str, str]) -> dict[str, Any]:
    return {
        "circumstances": circumstances,
        "aims": [
            {"what": aim.what, "measured": aim.measured, "aim": aim.limit, "met": aim.met}
            for part in parts
            for aim in part.aims
        ],
        "parts": {
            part.name: {
                "tables": [{"title": t.title, "head": t.head, "rows": t.rows} for t in part.tables],
                "notes": part.notes,
                "samples": part.samples,
            }
            for part in parts
        },
    }


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
