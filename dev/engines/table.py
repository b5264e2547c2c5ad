"""The part of docs/engines.md that the runs make: what holds on which engine, and why something does not."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from dev.engines.differences import Difference, failed, unexplained
from dev.engines.releases import RELEASES
from dev.engines.session import Run
from dev.images import CHECKOUT
from dev.junit import Verdict

DOCUMENT = CHECKOUT / "docs" / "engines.md"
_BEGIN = "<!-- from here on made by `make test-engines` -->"
_CONFORMANCE = CHECKOUT / "docs" / "conformance.md"


def write(runs: Mapping[str, Run], differences: Sequence[Difference], path: Path = DOCUMENT) -> None:
    """Replace what follows the marker in the document. Raises ValueError where there is none."""
    kept, marker, _ = path.read_text(encoding="utf-8").partition(_BEGIN)
    if not marker:
        raise ValueError(f"{path} lacks the line {_BEGIN}")
    path.write_text(f"{kept}{marker}\n\n{text(runs, differences)}", encoding="utf-8")


def text(runs: Mapping[str, Run], differences: Sequence[Difference]) -> str:
    """The table and the differences, as Markdown."""
    lines = [
        "## What holds where",
        "",
        _row("", [RELEASES[name].title for name in runs]).replace("  ", " "),
        f"|---|{'---|' * len(runs)}",
        _row("version", [run.version for run in runs.values()]),
        _row("API", [run.api_version for run in runs.values()]),
        _row("all tests", [_cell(name, run, differences, "") for name, run in runs.items()]),
    ]
    # The points of the contract, from the document that names their tests.
    promises = re.findall(r"^\| (\d+) \| (.*?) \|", _CONFORMANCE.read_text(encoding="utf-8"), re.MULTILINE)
    for number, promise in promises:
        wanted = f"::test_conformance_{int(number):02}_"
        if any(wanted in test for run in runs.values() for test in run.outcomes):
            cells = [_cell(name, run, differences, wanted) for name, run in runs.items()]
            lines.append(_row(f"{number}: {promise}", cells))
    lines += ["", *_notes(runs), "## Differences", ""]
    for number, difference in enumerate(differences, 1):
        titles = ", ".join(RELEASES[name].title for name in difference.engines)
        found = [test for name, run in runs.items() for test in failed(run.outcomes) if difference.explains(name, test)]
        lines += [f"{number}. **{difference.title}** ({titles}). {difference.reason}\n   Tests: {_names(found)}.", ""]
    unknown = [test for name, run in runs.items() for test in unexplained(name, run.outcomes, differences)]
    if unknown:
        lines += [f"**Not explained:** {_names(unknown)}", ""]
    return "\n".join(lines).rstrip() + "\n"


def _cell(name: str, run: Run, differences: Sequence[Difference], wanted: str) -> str:
    """How many of the tests with `wanted` in their ids passed, and the numbers of what explains the others."""
    tests = {test: each for test, each in run.outcomes.items() if wanted in test and each.verdict != Verdict.SKIPPED}
    others = failed(tests)
    if not others:
        return f"all {len(tests)}" if tests else "not run"
    why = [
        str(number)
        for number, difference in enumerate(differences, 1)
        if any(difference.explains(name, test) for test in others)
    ]
    return f"{len(tests) - len(others)} of {len(tests)} ({', '.join(why) or '?'})"


def _row(title: str, cells: Iterable[str]) -> str:
    return f"| {title} | {' | '.join(cells)} |"


def _notes(runs: Mapping[str, Run]) -> list[str]:
    lines: list[str] = []
    for name, run in runs.items():
        title = RELEASES[name].title
        if run.selection:
            lines += [f"On {title}, only the tests that pytest's `-k` selects by `{run.selection}` were run.", ""]
        skipped = [test for test, outcome in run.outcomes.items() if outcome.verdict is Verdict.SKIPPED]
        if skipped:
            lines += [f"Skipped on {title}, since the machine lacked what they need: {_names(skipped)}.", ""]
        if run.second:
            lines += [f"Passed on {title} only when run again, alone: {_names(run.second)}.", ""]
    return lines


def _names(tests: Iterable[str]) -> str:
    """The tests as documents name them: without their parameters."""
    return ", ".join(f"`{test}`" for test in sorted({test.partition("[")[0] for test in tests})) or "none"
