"""What `make test` runs, side by side, once there is an engine: `python3 -m dev.suite`, within `python3 -m dev.run --`.

The tests on engines mostly wait, for the shared one or for their own; the others mostly compute. So each kind has a
pytest of its own, and the checks take what they leave of the machine. The tests that need the bot image come after
those of faults, when it is built, or wait for it.
With $SUITE_OUTCOMES, a directory, each pytest leaves its outcomes there (`dev.outcomes`), and we the jobs' exit codes.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dev.beside import IDLE, Job, combined, run
from dev.outcomes import VARIABLE

OUTCOMES_DIRECTORY = "SUITE_OUTCOMES"
CODES_FILE = "codes.json"
CHECKOUT = Path(__file__).resolve().parent.parent
PYTHON = str(CHECKOUT / ".venv" / "bin" / "python")
LOWEST_PYTHON = str(CHECKOUT / ".venv-lowest" / "bin" / "python")
_COMPUTES = 5  # the niceness of tests that compute, so that those which wait find the processor when their time comes
_ON_ENGINE = ("tests/engine",)
_FAULTS = ("tests/hostile", "tests/chaos")
_BOT_IMAGE = tuple(
    f"tests/engine/test_{name}.py" for name in ("bot_image", "bot_image_gateway", "end_to_end_bot", "make_serve")
)
# Of the unit tests, those in which the versions of others have a say.
_AT_VERSIONS = ("cli", "client", "codec", "e*", "logs", "proto", "streams", "wire")


@dataclass(frozen=True)
class Part:
    """The tests of one pytest process."""

    name: str
    python: str
    arguments: Sequence[str]
    niceness: int = _COMPUTES
    live: bool = False
    """Its output is shown as it comes; of one part."""

    @property
    def outcomes(self) -> str:
        """The file of its outcomes, in the directory for them."""
        return f"{self.name}.outcomes"

    def command(self, chosen: Sequence[str] = ()) -> list[str]:
        """The pytest run of all its tests, or of the `chosen` ids."""
        return [self.python, "-m", "pytest", "-p", "dev.outcomes", "-m", "not slow", *(chosen or self.arguments)]


def parts() -> list[Part]:
    """Every pytest run of `make test`."""
    patterns = [f"test_{name}.py" for name in _AT_VERSIONS]
    at_versions = sorted(str(path) for each in patterns for path in Path("tests/unit").glob(each))
    return [
        Part("engine", PYTHON, [*_ON_ENGINE, *(f"--ignore={module}" for module in _BOT_IMAGE)], niceness=0, live=True),
        Part("faults", PYTHON, _FAULTS, niceness=0),
        Part("bot", PYTHON, _BOT_IMAGE, niceness=0),
        Part("rest", PYTHON, ["tests", *(f"--ignore={directory}" for directory in (*_ON_ENGINE, *_FAULTS))]),
        Part("lowest", LOWEST_PYTHON, ["-q", "tests/packaging/test_requirements.py", "tests/rpc", *at_versions]),
    ]


def lanes(outcomes: Path | None) -> list[list[Job]]:
    """All jobs of `make test`."""
    jobs = {part.name: _job(part, outcomes) for part in parts()}
    return [
        [jobs["engine"]],
        [jobs["faults"], jobs["bot"]],
        [jobs["rest"], Job("lowest-environment", ["dev/env.sh", "lowest"], niceness=_COMPUTES), jobs["lowest"]],
        [Job("bot-image", [PYTHON, "-m", "dev.images", "bot"], niceness=_COMPUTES)],
        [Job("check", ["make", "--no-print-directory", "check"], niceness=IDLE)],
    ]


def _job(part: Part, outcomes: Path | None) -> Job:
    environment = {VARIABLE: str(outcomes / part.outcomes)} if outcomes else {}
    return Job(part.name, part.command(), live=part.live, niceness=part.niceness, environment=environment)


def _leave_codes(directory: Path, codes: Mapping[str, int]) -> None:
    """All of them or none: whoever is killed while it writes leaves no half of the file."""
    unfinished = directory / f"{CODES_FILE}.unfinished"
    unfinished.write_text(json.dumps(codes), encoding="utf-8")
    unfinished.replace(directory / CODES_FILE)


def main() -> int:
    """Run all of it."""
    os.chdir(CHECKOUT)
    given = os.environ.get(OUTCOMES_DIRECTORY)
    directory = Path(given) if given else None
    ended = run(lanes(directory))
    if directory:
        _leave_codes(directory, {each.name: each.code for each in ended})
    return combined(ended)


if __name__ == "__main__":
    sys.exit(main())
