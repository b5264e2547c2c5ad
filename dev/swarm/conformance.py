"""Run the tests on a swarm, on each engine, and make the table in docs/swarm.md: `python -m dev.swarm.conformance`.

`-k EXPRESSION` runs only the tests that pytest's expression selects. The table is then made for `conformance` alone.
Exits with 1 if a test fails, or if the table lacks one of the tests that show a difference.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence

from dev.engines.session import Run
from dev.images import CHECKOUT
from dev.junit import Outcome, read_junit, read_properties
from dev.swarm import table
from dev.swarm.differences import read

ENGINES = ("installed", "docker-28.5")
"""What the nodes run, as the tests' parameter: the engine of this machine, and a release of dev.engines."""
CONFORMANCE = "conformance"
_REPORT = CHECKOUT / ".dev" / "swarm" / "report.xml"


def main(arguments: Sequence[str]) -> int:
    """Run the tests, and write the table."""
    selection = arguments[1] if len(arguments) == 2 and arguments[0] == "-k" else ""
    if arguments and not selection:
        print("usage: python -m dev.swarm.conformance [-k EXPRESSION]", file=sys.stderr)
        return 2
    _REPORT.parent.mkdir(parents=True, exist_ok=True)
    _REPORT.unlink(missing_ok=True)
    options = [f"--junit-xml={_REPORT}", "-o", "junit_logging=no", *arguments]
    code = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/swarm", *options], cwd=CHECKOUT, check=False
    ).returncode
    if selection not in ("", CONFORMANCE):
        print(f"docs/swarm.md stays as it is: its table is made by all tests, or by TESTS={CONFORMANCE}")
        return code
    runs = runs_of(read_junit(_REPORT), read_properties(_REPORT), selection)
    if missing := [name for name in ENGINES if name not in runs]:
        print(f"swarm: docs/swarm.md stays as it is: no swarm ran with {', '.join(missing)}", file=sys.stderr)
        return code or 1
    table.write(runs, read())
    return code


def runs_of(outcomes: Mapping[str, Outcome], versions: Mapping[str, str], selection: str = "") -> dict[str, Run]:
    """What the report has of each engine.

    `versions`: of the engines that ran, `VERSION API_VERSION`. A test without an engine counts on none.
    """
    found = {}
    for name in ENGINES:
        if name in versions:
            version, _, api_version = versions[name].partition(" ")
            own = {test: outcome for test, outcome in outcomes.items() if _runs_on(test, name)}
            found[name] = Run(version, api_version, own, selection=selection)
    return found


def _runs_on(test: str, engine: str) -> bool:
    parameters = test.partition("[")[2].removesuffix("]")
    return f"-{engine}-" in f"-{parameters}-"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
