"""The part of docs/engines.md that the runs make: what holds on which engine, and why something does not."""

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from dev.engines.differences import Difference, everywhere_skipped, unexplained
from dev.engines.releases import RELEASES
from dev.engines.session import Run
from dev.images import CHECKOUT
from dev.junit import Outcome, Verdict

DOCUMENT = CHECKOUT / "docs" / "engines.md"
_BEGIN = "<!-- from here on made by `make test-engines` -->"
_CONFORMANCE = CHECKOUT / "docs" / "conformance.md"
_NUMBER = re.compile(r"::test_conformance_(\d\d)_")


def write(runs: Mapping[str, Run], differences: Sequence[Difference], path: Path = DOCUMENT) -> None:
    """Replace what follows the marker in the document. Raises ValueError where there is none."""
    kept, marker, _ = path.read_text(encoding="utf-8").partition(_BEGIN)
    if not marker:
        raise ValueError(f"{path} lacks the line {_BEGIN}")
    path.write_text(f"{kept}{marker}\n\n{text(runs, differences)}", encoding="utf-8")


def text(runs: Mapping[str, Run], differences: Sequence[Difference]) -> str:
    """The tables and the differences, as Markdown."""
    left_out = everywhere_skipped(run.outcomes for run in runs.values())
    tests = sorted({test for run in runs.values() for test in run.outcomes} - left_out)
    head = ["|".join(["", " ", *(f" {RELEASES[name].title} " for name in runs), ""]), f"|---|{'---|' * len(runs)}"]
    cells = _Cells(runs, differences)
    lines = [
        "## What holds where",
        "",
        *head,
        _row("version", [run.version for run in runs.values()]),
        _row("API", [run.api_version for run in runs.values()]),
        _row("all tests", cells.of(tests)),
    ]
    for number, promise in _promises():
        proofs = [test for test in tests if (found := _NUMBER.search(test)) and int(found[1]) == number]
        lines += [_row(f"{number}: {promise}", cells.of(proofs))] if proofs else []
    lines += ["", "## By subject", "", *head]
    for module in sorted({test.partition("::")[0] for test in tests}):
        lines.append(_row(_title(module), cells.of(test for test in tests if test.startswith(f"{module}::"))))
    lines += ["", *_notes(runs, left_out), "## Differences", ""]
    for number, difference in enumerate(differences, 1):
        lines += [_difference(number, difference, runs), ""]
    unknown = {each for name, run in runs.items() for each in unexplained(name, run.outcomes, differences, left_out)}
    if unknown:
        lines += [f"**Not explained:** {_names(unknown)}", ""]
    return "\n".join(lines).rstrip() + "\n"


class _Cells:
    """A row's cells, one for each engine: how many of its tests pass, and the numbers of what explains the rest."""

    def __init__(self, runs: Mapping[str, Run], differences: Sequence[Difference]) -> None:
        self._runs = runs
        self._differences = differences

    def of(self, tests: Iterable[str]) -> list[str]:
        wanted = list(tests)
        return [
            # Of what was chosen to run there.
            self._cell(name, run.outcomes, [test for test in wanted if test in run.outcomes or not run.selection])
            for name, run in self._runs.items()
        ]

    def _cell(self, name: str, outcomes: dict[str, Outcome], tests: list[str]) -> str:
        others = [test for test in tests if test not in outcomes or outcomes[test].verdict is not Verdict.PASSED]
        if not others:
            return f"all {len(tests)}" if tests else "not run"
        why = [
            str(number)
            for number, difference in enumerate(self._differences, 1)
            if any(difference.explains(name, test) for test in others)
        ]
        return f"{len(tests) - len(others)} of {len(tests)} ({', '.join(why) or '?'})"


def _row(title: str, cells: Iterable[str]) -> str:
    return f"| {title} | {' | '.join(cells)} |"


def _promises() -> list[tuple[int, str]]:
    """Number and text of each point of the contract, from the document that names their tests."""
    rows = re.findall(r"^\| (\d+) \| (.*?) \|", _CONFORMANCE.read_text(encoding="utf-8"), re.MULTILINE)
    return [(int(number), promise) for number, promise in rows]


def _title(module: str) -> str:
    """What a module of tests says that it is about."""
    docstring = ast.get_docstring(ast.parse((CHECKOUT / module).read_text(encoding="utf-8"))) or module
    return docstring.splitlines()[0].rstrip(".").replace("``", "`").replace("|", "\\|")


def _notes(runs: Mapping[str, Run], left_out: set[str]) -> list[str]:
    lines: list[str] = []
    for name, run in runs.items():
        if run.selection:
            chosen = f"those that pytest's `-k` selects by `{run.selection}`"
            lines += [f"Not all tests were run on {RELEASES[name].title}: {chosen}.", ""]
    if left_out:
        lines += [f"Left out, since the machine of the run lacked what they need: {_names(left_out)}.", ""]
    for name, run in runs.items():
        if run.second:
            lines += [f"Passed on {RELEASES[name].title} only when run again, alone: {_names(run.second)}.", ""]
    return lines


def _difference(number: int, difference: Difference, runs: Mapping[str, Run]) -> str:
    where = ", ".join(RELEASES[name].title for name in difference.engines)
    tests = {
        test
        for name in difference.engines
        if name in runs
        for test, outcome in runs[name].outcomes.items()
        if outcome.verdict is not Verdict.PASSED and difference.explains(name, test)
    }
    return f"{number}. **{difference.title}** ({where}). {difference.reason}\n   Tests: {_names(tests)}."


def _names(tests: Iterable[str]) -> str:
    """The tests as documents name them: without their parameters."""
    return ", ".join(f"`{test}`" for test in sorted({test.partition("[")[0] for test in tests})) or "none"
