"""The outcome of each test, from the JUnit report of a pytest run."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

TEARDOWN = "failed on teardown"
"""How pytest begins the message of an error while a test is torn down."""


class Verdict(IntEnum):
    """How a test ended; of a test's several parts the worst counts."""

    PASSED = 0
    SKIPPED = 1
    FAILED = 2


@dataclass(frozen=True)
class Outcome:
    """How a test ended; unless it passed, with the first line of the reason."""

    verdict: Verdict
    message: str = ""


def read_junit(path: Path) -> dict[str, Outcome]:
    """Every test's outcome by its id, `tests/engine/test_x.py::test_y[parameter]`, in the order of the run.

    Raises ValueError for a file that is no such report.
    """
    outcomes: dict[str, Outcome] = {}
    for case in _report(path).iter("testcase"):
        test = _test_id(case.get("classname", ""), case.get("name", ""))
        outcome = _outcome(case)
        # An error while a test is torn down comes as a second entry.
        if test not in outcomes or outcome.verdict >= outcomes[test].verdict:
            outcomes[test] = outcome
    return outcomes


def read_properties(path: Path) -> dict[str, str]:
    """What the tests recorded of their run as a whole. Raises as read_junit()."""
    return {each.get("name", ""): each.get("value", "") for each in _report(path).iterfind("testsuite/properties/*")}


def _report(path: Path) -> ET.Element:
    try:
        return ET.parse(path).getroot()
    except (ET.ParseError, FileNotFoundError) as error:
        raise ValueError(f"{path} is no report of pytest's: {error}") from error


def _outcome(case: ET.Element) -> Outcome:
    found = Outcome(Verdict.PASSED)
    for part in case:
        verdict = {"skipped": Verdict.SKIPPED, "failure": Verdict.FAILED, "error": Verdict.FAILED}.get(part.tag)
        if verdict is not None and verdict > found.verdict:
            lines = part.get("message", "").strip().splitlines()
            found = Outcome(verdict, lines[0] if lines else "")
    return found


def _test_id(classname: str, name: str) -> str:
    parts = classname.split(".")
    module = next((n for n, part in enumerate(parts) if part.startswith("test_")), len(parts) - 1)
    return "::".join(["/".join(parts[: module + 1]) + ".py", *parts[module + 1 :], name])
