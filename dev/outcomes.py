"""What a pytest run has told of each test, on a file that also a killed run leaves behind.

As pytest's plugin (`-p dev.outcomes`) this writes to the file that $TEST_OUTCOMES names, a line of JSON for each
thing that happens; :func:`read` makes an :class:`Outcomes` of it.
"""

import json
import os
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "TEST_OUTCOMES"


@dataclass
class Outcomes:
    """One run's tests, by their ids."""

    passed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)
    beyond_repeat: list[str] = field(default_factory=list)
    """What went wrong that is no one test's failure: collecting, a test that hung, taking down what many share."""
    running: str = ""
    """The test that had begun and not ended when the file ended."""
    exit_code: int | None = None
    """pytest's own, or None where it did not get that far."""


def read(file: Path) -> Outcomes:
    """The outcomes in the file, of which a killed run may have left the last line unfinished, or none at all."""
    found = Outcomes()
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        try:
            _take(found, **json.loads(line))
        except ValueError:
            break
    return found


def _take(found: Outcomes, what: str, name: str = "", code: int | None = None) -> None:
    if what == "begun":
        found.running = name
    elif what == "exit":
        found.exit_code = code
    elif what == "beyond":
        found.beyond_repeat.append(name)
    else:
        found.running = ""
        getattr(found, what).add(name)


class _Writer:
    """The hooks of one run."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("w", encoding="utf-8")
        self._phases: set[str] = set()
        self._is_last = False

    def _write(self, **line: Any) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        self._phases, self._is_last = set(), nextitem is None
        self._write(what="begun", name=item.nodeid)
        result = yield
        ended = "failed" if "failed" in self._phases else "skipped" if "skipped" in self._phases else "passed"
        self._write(what=ended, name=item.nodeid)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._phases.add(report.outcome)
        # The last test's end is also that of what the whole run shares, where it is told what was left behind.
        if report.failed and report.when == "teardown" and self._is_last:
            self._write(what="beyond", name=f"{report.nodeid}: the end of what the whole run shares")
        if report.failed and "Timeout (>" in report.longreprtext.rpartition("\nE ")[2]:
            self._write(what="beyond", name=f"{report.nodeid}: it ran into pytest's time limit")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._write(what="beyond", name=f"{report.nodeid}: collecting its tests")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self._write(what="exit", code=int(exitstatus))
        self._file.close()


def pytest_configure(config: pytest.Config) -> None:
    """Begin the file, where one is asked for."""
    if os.environ.get(VARIABLE):
        config.pluginmanager.register(_Writer(Path(os.environ[VARIABLE])), "outcomes")
