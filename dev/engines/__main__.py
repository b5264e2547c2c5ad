"""Run the engine tests on the engines named, or on all, and make the table in docs/engines.md.

`-k EXPRESSION` runs only the tests that pytest's expression selects, instead of all, or of the release's own selection;
the document says so.

Exits with 1 if a failure has no explanation, an explanation has no failure, or the engines did not have the same tests.
"""

import contextlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence

from dev.debian import MissingEngine
from dev.docker_command import DockerError
from dev.engine import EngineError
from dev.engines import table
from dev.engines.differences import Difference, missing, outdated, read, unexplained
from dev.engines.network import network_namespace
from dev.engines.releases import RELEASES
from dev.engines.session import Run, run_file
from dev.images import CHECKOUT, ensure_bot_image
from dev.junit import Verdict


def main(arguments: Sequence[str]) -> int:
    """Run the tests, print the outcomes, and write the table."""
    source = os.environ.get("DOCKER_HOST")
    selection, names = "", list(arguments)
    if names[:1] == ["-k"] and names[1:]:
        selection, names = names[1], names[2:]
    if set(names) - set(RELEASES) or not source:
        known = " | ".join(RELEASES)
        print(f"usage: DOCKER_HOST=… python -m dev.engines [-k EXPRESSION] [{known}] …", file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("engines: only root can start engines of other releases", file=sys.stderr)
        return 1
    differences = read()
    try:
        selections = {name: selection or RELEASES[name].selection for name in names or RELEASES}
        if not all(selections.values()):
            ensure_bot_image(source)
        broken = [name for name in selections if not _run(name, source, selections[name])]
    except (MissingEngine, EngineError, DockerError, OSError) as error:
        print(f"engines: {error}", file=sys.stderr)
        return 1
    runs = {name: Run.read(run_file(name)) for name in RELEASES if run_file(name).exists()}
    for name, run in runs.items():
        counts = Counter(outcome.verdict for outcome in run.outcomes.values())
        told = ", ".join(f"{counts[verdict]} {verdict.name.lower()}" for verdict in Verdict)
        print(f"{RELEASES[name].title:14} {run.version:18} {told}")
    if lacking := [name for name in RELEASES if name not in runs]:
        print(f"docs/engines.md stays as it is until there are runs of {', '.join(lacking)}")
    else:
        table.write(runs, differences)
    problems = [f"{name}: the run did not come to its end" for name in broken] + _problems(runs, differences)
    for problem in problems:
        print(f"engines: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _run(name: str, source: str, selection: str) -> bool:
    """The tests on one engine; False where there is no outcome."""
    print(f"== {RELEASES[name].title}", flush=True)
    run_file(name).parent.mkdir(parents=True, exist_ok=True)
    run_file(name).unlink(missing_ok=True)
    with contextlib.ExitStack() as stack:
        # Podman writes into the firewall of its network, and leaves there what a crash left.
        enter = stack.enter_context(network_namespace()) if RELEASES[name].podman else []
        command = [*enter, sys.executable, "-m", "dev.engines.session", name, source, selection]
        return subprocess.run(command, cwd=CHECKOUT, check=False).returncode == 0


def _problems(runs: Mapping[str, Run], differences: Sequence[Difference]) -> list[str]:
    whole = {name: run.outcomes for name, run in runs.items() if not run.selection}
    lines = [
        f"{test}: not there on {', '.join(name for name in whole if test not in whole[name])}"
        for test in sorted(missing(whole.values()))
    ]
    for name, run in runs.items():
        for test, outcome in unexplained(name, run.outcomes, differences).items():
            lines.append(f"{name}: {test} failed, and nothing explains it: {outcome.message}")
        for title, pattern in outdated(name, run.outcomes, differences):
            lines.append(f"{name}: {title!r}: {pattern} explains nothing")
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
