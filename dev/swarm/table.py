"""The part of docs/swarm.md that the tests on a swarm make: which promises hold, and what differs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dev.engines.differences import failed
from dev.engines.session import Run
from dev.engines.table import conforms, names, promises, replace_made, row
from dev.images import CHECKOUT
from dev.junit import Verdict
from dev.swarm.differences import Difference

DOCUMENT = CHECKOUT / "docs" / "swarm.md"
_BEGIN = "<!-- from here on made by `make test-swarm` -->"


def write(runs: Mapping[str, Run], differences: Sequence[Difference], path: Path = DOCUMENT) -> None:
    """Replace what follows the marker in the document. Raises ValueError where there is none."""
    replace_made(path, _BEGIN, text(runs, differences))


def text(runs: Mapping[str, Run], differences: Sequence[Difference]) -> str:
    """The table and the differences, as Markdown."""
    lines = [
        "## What holds",
        "",
        row("", [f"Docker {run.version}" for run in runs.values()] + ["differences"]).replace("  ", " "),
        f"|---|{'---|' * len(runs)}---|",
        row("API", [run.api_version for run in runs.values()] + [""]),
    ]
    for number, promise in promises().items():
        declared = {str(n): each for n, each in enumerate(differences, 1) if number in each.promises}
        shown = {test for difference in declared.values() for test in difference.tests}
        cells = [_cell(run, conforms(number), shown) for run in runs.values()]
        lines.append(row(f"{number}: {promise}", [*cells, ", ".join(declared)]))
    lines.append("")
    for run in runs.values():
        if run.selection:
            lines += [f"On Docker {run.version}, only the tests named `{run.selection}` were run.", ""]
        if broken := failed(run.outcomes):
            lines += [f"**Failed on Docker {run.version}:** {names(broken)}", ""]
    lines += ["## Differences", ""]
    for number, difference in enumerate(differences, 1):
        lines += [f"{number}. **{difference.title}.** {difference.reason}\n   Tests: {names(difference.tests)}.", ""]
    return "\n".join(lines).rstrip() + "\n"


def _cell(run: Run, wanted: str, shown: set[str]) -> str:
    """How many of the promise's tests passed: those named after it, and those that show its differences."""
    tests = {
        test: outcome for test, outcome in run.outcomes.items() if wanted in test or test.partition("[")[0] in shown
    }
    passed = sum(outcome.verdict is Verdict.PASSED for outcome in tests.values())
    broken = len(failed(tests))
    if broken:
        return f"{passed} of {passed + broken}"
    return f"all {passed}" if passed else "not run"
