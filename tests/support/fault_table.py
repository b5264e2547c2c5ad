"""The table of all faults of a run, printed at the end of the run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest

_HEADINGS = ("fault", "times", "calls", "lost", "recovered in", "outcomes")


_ROWS = pytest.StashKey[list["FaultRow"]]()


@dataclass(frozen=True)
class FaultRow:
    """One scenario and its outcome."""

    fault: str
    times: int
    calls: int
    outcomes: Counter[str]
    lost: int
    slowest_recovery_seconds: float | None = None
    """``None``: no recovery was needed."""
    limit_seconds: float | None = None
    """What the recovery may take on a machine that has nothing else to do; a table tells when it took longer."""

    def cells(self) -> tuple[str, ...]:
        """The row's texts."""
        outcomes = ", ".join(f"{code} {count}" for code, count in self.outcomes.most_common())
        recovery = "-" if self.slowest_recovery_seconds is None else f"{self.slowest_recovery_seconds:.2f} s"
        if self.limit_seconds is not None and self.slowest_recovery_seconds is not None:
            missed = " MISSED" if self.slowest_recovery_seconds > self.limit_seconds else ""
            recovery += f" (limit {self.limit_seconds:g} s{missed})"
        return (self.fault, str(self.times), str(self.calls), str(self.lost), recovery, outcomes)


def lines(rows: list[FaultRow]) -> list[str]:
    """The table, one line a row, in columns."""
    cells = [_HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEADINGS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def add(config: pytest.Config, row: FaultRow) -> None:
    """Add a row to the table of this run; fails if it has lost anything."""
    config.stash.setdefault(_ROWS, []).append(row)
    assert row.lost == 0


def print_table(reporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table of this run, once."""
    if rows := config.stash.get(_ROWS, []):
        reporter.section("faults")
        for line in lines(rows):
            reporter.write_line(line)
        rows.clear()
