"""What a swarm keeps otherwise than one engine does: the declarations in differences.toml."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

PATH = Path(__file__).with_name("differences.toml")


@dataclass(frozen=True)
class Difference:
    """A difference that callers may notice. The tests pass: they show it."""

    title: str
    reason: str
    promises: tuple[int, ...]
    """Of the contract; their numbers are those of docs/conformance.md."""
    tests: tuple[str, ...]
    """Without parameters."""


def read(path: Path = PATH) -> list[Difference]:
    """The declarations. Raises ValueError for one that is incomplete."""
    found = []
    for entry in tomllib.loads(path.read_text(encoding="utf-8"))["difference"]:
        title, reason = (" ".join(str(entry.get(key, "")).split()) for key in ("title", "reason"))
        difference = Difference(title, reason, tuple(entry.get("promises", ())), tuple(entry.get("tests", ())))
        if not all(vars(difference).values()):
            raise ValueError(f"a difference needs title, reason, promises and tests: {entry}")
        found.append(difference)
    return found
