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
    replace_made(path, _BEGIN, text(runs, differences))


def replace_made(path: Path, begin: str, made: str) -> None:
    """Put `made` in the place of what follows the line `begin` in a document. Raises ValueError where there is none."""
    kept, marker, _ = path.read_text(encoding="utf-8").partition(begin)
    if not marker:
        raise ValueError(f"{path} lacks the line {begin}")
    path.write_text(f"{kept}{marker}\n\n{made}", encoding="utf-8")


def promises() -> dict[int, str]:
    """The numbered promises of the contract, from the document that names their tests."""
    found = re.findall(r"^\| (\d+) \| (.*?) \|", _CONFORMANCE.read_text(encoding="utf-8"), re.MULTILINE)
    return {int(number): promise for number, promise in found}


def conforms(number: int) -> str:
    """What the ids of the tests of a promise contain."""
    return f"::test_conformance_{number:02}_"


def text(runs: Mapping[str, Run], differences: Sequence[Difference]) -> str:
    """The table and the differences, as Markdown."""
    lines = [
        "## What holds where",
        "",
        row("", [RELEASES[name].title for name in runs]).replace("  ", " "),
        f"|---|{'---|' * len(runs)}",
        row("version", [run.version for run in runs.values()]),
        row("API", [run.api_version for run in runs.values()]),
        row("all tests", [_cell(name, run, differences, "") for name, run in runs.items()]),
    ]
    for number, promise in promises().items():
        wanted = conforms(number)
        if any(wanted in test for run in runs.values() for test in run.outcomes):
            cells = [_cell(name, run, differences, wanted) for name, run in runs.items()]
            lines.append(row(f"{number}: {promise}", cells))
    lines += ["", *_notes(runs), "## Differences", ""]
    for number, difference in enumerate(differences, 1):
        titles = ", ".join(RELEASES[name].title for name in difference.engines)
        found = [test for name, run in runs.items() for test in failed(run.outcomes) if difference.explains(name, test)]
        lines += [f"{number}. **{difference.title}** ({titles}). {difference.reason}\n   Tests: {names(found)}.", ""]
    unknown = [test for name, run in runs.items() for test in unexplained(name, run.outcomes, differences)]
    if unknown:
        lines += [f"**Not explained:** {names(unknown)}", ""]
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


def row(title: str, cells: Iterable[str]) -> str:
    """A line of a table in Markdown."""
    return f"| {title} | {' | '.join(cells)} |"


def _notes(runs: Mapping[str, Run]) -> list[str]:
    lines: list[str] = []
    for name, run in runs.items():
        title = RELEASES[name].title
        if run.selection:
            lines += [f"On {title}, only the tests that pytest's `-k` selects by `{run.selection}` were run.", ""]
        skipped = [test for test, outcome in run.outcomes.items() if outcome.verdict is Verdict.SKIPPED]
        if skipped:
            lines += [f"Skipped on {title}, since the machine lacked what they need: {names(skipped)}.", ""]
        if run.second:
            lines += [f"Passed on {title} only when run again, alone: {names(run.second)}.", ""]
    return lines


def names(tests: Iterable[str]) -> str:
    """The tests as documents name them: without their parameters."""
    return ", ".join(f"`{test}`" for test in sorted({test.partition("[")[0] for test in tests})) or "none"
