"""What does not hold on some engine, and why: the explanations in differences.toml."""

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dev.engines.releases import RELEASES
from dev.junit import Outcome, Verdict

PATH = Path(__file__).with_name("differences.toml")


@dataclass(frozen=True)
class Difference:
    """Why the tests whose whole id one of `tests` matches fail on `engines`."""

    title: str
    reason: str
    engines: tuple[str, ...]
    tests: tuple[re.Pattern[str], ...]
    sometimes: bool = False
    """They also pass."""

    def explains(self, engine: str, test: str) -> bool:
        """Whether this is about that test on that engine."""
        return engine in self.engines and any(pattern.fullmatch(test) for pattern in self.tests)


def read(path: Path = PATH) -> list[Difference]:
    """The explanations. Raises ValueError for one that is incomplete, or that names an unknown engine."""
    found = []
    for entry in tomllib.loads(path.read_text(encoding="utf-8")).get("difference", []):
        title = " ".join(str(entry.get("title", "")).split())
        reason = " ".join(str(entry.get("reason", "")).split())
        engines, tests = tuple(entry.get("engines", ())), tuple(entry.get("tests", ()))
        if not (title and reason and engines and tests):
            raise ValueError(f"a difference needs title, reason, engines and tests: {entry}")
        if unknown := set(engines) - set(RELEASES):
            raise ValueError(f"{title}: no such engine: {', '.join(sorted(unknown))}")
        try:
            patterns = tuple(re.compile(f"tests/engine/test_{pattern}") for pattern in tests)
        except re.error as error:
            raise ValueError(f"{title}: {error}: {error.pattern!r}") from error
        found.append(Difference(title, reason, engines, patterns, entry.get("sometimes", False)))
    return found


def missing(results: Iterable[dict[str, Outcome]]) -> set[str]:
    """The tests that some of these runs have, and others have not."""
    known: list[set[str]] = [set(result) for result in results]
    return set.union(*known) - known[0].intersection(*known) if known else set()


def failed(outcomes: dict[str, Outcome]) -> dict[str, Outcome]:
    """The tests that failed. A test is skipped for what the machine lacks, whatever the engine."""
    return {test: outcome for test, outcome in outcomes.items() if outcome.verdict is Verdict.FAILED}


def unexplained(engine: str, outcomes: dict[str, Outcome], differences: Iterable[Difference]) -> dict[str, Outcome]:
    """The tests that failed on this engine for no stated reason."""
    about = [difference for difference in differences if engine in difference.engines]
    return {
        test: outcome
        for test, outcome in failed(outcomes).items()
        if not any(difference.explains(engine, test) for difference in about)
    }


def outdated(engine: str, outcomes: dict[str, Outcome], differences: Iterable[Difference]) -> list[tuple[str, str]]:
    """Title and pattern of each explanation of a failure that this engine always has, and does not have here."""
    return [
        (difference.title, pattern.pattern)
        for difference in differences
        if engine in difference.engines and not difference.sometimes
        for pattern in difference.tests
        if not any(pattern.fullmatch(test) for test in failed(outcomes))
    ]
