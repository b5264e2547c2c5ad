"""What a part has measured: tables, and figures with their aims."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from bench.figures import Ratio, three


@dataclass
class Part:
    """The results of one part."""

    tables: list[str] = field(default_factory=list)
    aims: list[tuple[str, str, str, str]] = field(default_factory=list)
    """What was measured, the figure, what it should be, and whether it is. A missed aim does not fail the run."""

    def table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Add a table; the first column names the row."""
        self.tables.append(_aligned(title, [head, *rows]))

    def aim(self, what: str, measured: str, aim: str, *, met: bool) -> None:
        """Add a figure whose aim is more than one limit."""
        self.aims.append((what, measured, aim, "met" if met else "NOT MET"))

    def at_most(self, what: str, figure: float | Ratio, limit: float, unit: str = "") -> None:
        """Add a figure that should not exceed a limit."""
        value, text = _value(figure, unit)
        self.aim(what, text, f"at most {limit:,g}{unit}", met=value <= limit)

    def at_least(self, what: str, figure: float | Ratio, limit: float) -> None:
        """Add a figure that should reach a limit."""
        value, text = _value(figure, "")
        self.aim(what, text, f"at least {limit:,g}", met=value >= limit)


def circumstances(engine_version: str) -> dict[str, str]:
    """What the figures depend on."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "CPUs": str(os.cpu_count()),
        "load average before": load(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Docker Engine": engine_version,
        "Python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("docker", "grpcio", "protobuf")},
    }


def load() -> str:
    """Load averages over 1, 5 and 15 minutes. More than the CPUs before a run means that others disturb it."""
    return " ".join(f"{average:.2f}" for average in os.getloadavg())


def publish(parts: Sequence[Part], around: dict[str, str]) -> None:
    """Print all tables and, last, all aims."""
    for table in (table for part in parts for table in part.tables):
        print(f"\n{table}")
    print("\n" + "\n".join(f"{key}: {value}" for key, value in around.items()))
    print("\n" + _aligned("Aims", [("", "measured", "aim", ""), *(aim for part in parts for aim in part.aims)]))


def _value(figure: float | Ratio, unit: str) -> tuple[float, str]:
    return (figure.value, f"{figure}{unit}") if isinstance(figure, Ratio) else (figure, f"{three(figure)}{unit}")


def _aligned(title: str, lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = [
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]).rstrip()
        for line in lines
    ]
    return "\n".join([title, "-" * max(map(len, (title, *texts))), *texts])
