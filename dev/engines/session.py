"""The tests on one engine: `python -m dev.engines.session NAME SOURCE SELECTION`, a process of its own.

SOURCE is the engine from which the bot image is taken, SELECTION what pytest takes as -k, or empty. The outcomes are
written below `.dev/engines/NAME/`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dev import docker_command
from dev.engine import PrivateEngine
from dev.engines import differences
from dev.engines.programs import write_programs
from dev.engines.releases import RELEASES, Release
from dev.engines.tree import ensure_tree
from dev.images import BOT_IMAGE, CHECKOUT, SOURCE_HASH_LABEL, source_hash
from dev.junit import Outcome, Verdict, read_junit

STATE = CHECKOUT / ".dev" / "engines"
# What the image's entry point renders is the same on each engine, and takes as long as all the others.
_TESTS = ["-m", "not slow", "--timeout=120", "--ignore=tests/engine/test_bot_image.py", "tests/engine"]
# So many failures are no noise of the machine.
_TRIED_AGAIN = 20


@dataclass(frozen=True)
class Run:
    """What the tests on one engine brought."""

    version: str
    api_version: str
    outcomes: dict[str, Outcome]
    second: tuple[str, ...] = ()
    """The tests that passed only when they ran again, alone."""
    selection: str = ""
    """Pytest's expression (-k) for what was run; empty for all of the tests."""

    def write(self, path: Path) -> None:
        """Keep it for the table that comes of all runs."""
        outcomes = {test: [int(outcome.verdict), outcome.message] for test, outcome in self.outcomes.items()}
        document = {"version": self.version, "api": self.api_version, "outcomes": outcomes}
        document |= {"second": self.second, "selection": self.selection}
        path.write_text(json.dumps(document, indent=1), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Run":
        """A run that was kept."""
        found = json.loads(path.read_text(encoding="utf-8"))
        outcomes = {test: Outcome(Verdict(verdict), text) for test, (verdict, text) in found["outcomes"].items()}
        return cls(found["version"], found["api"], outcomes, tuple(found["second"]), found["selection"])


def run_file(name: str) -> Path:
    """Where the last run on this engine is kept."""
    return STATE / name / "run.json"


def run(name: str, source: str, selection: str) -> Run:
    """Start the engine, run the tests on it, stop it."""
    release, directory = RELEASES[name], STATE / name
    dockerd = write_programs(release, ensure_tree(release, STATE), directory / "bin")
    engine = PrivateEngine(directory / "engine", dockerd=str(dockerd))
    engine.stop()  # clears what a run that was killed has left
    with engine:
        environment = {
            **docker_command.environment(engine.url),
            "PATH": f"{dockerd.parent}:{os.environ['PATH']}",
        }
        version, api_version = _version(environment, release)
        if not version.startswith(release.version):
            raise SystemExit(
                f"{name}: Debian {release.suite} now has {version}: dev/engines/releases.py needs a change"
            )
        if not selection:
            _copy_bot_image(source, environment)
        report = directory / "report.xml"
        outcomes = _pytest(report, environment, [*_TESTS, "-k", selection])
        failed = differences.unexplained(name, outcomes, differences.read())
        again = [test for test, outcome in failed.items() if outcome.verdict is Verdict.FAILED]
        second: list[str] = []
        if again and len(again) <= _TRIED_AGAIN:
            outcomes |= _pytest(report, environment, again)
            second = [test for test in again if outcomes[test].verdict is Verdict.PASSED]
        return Run(version, api_version, outcomes, tuple(second), selection)


def _pytest(report: Path, environment: dict[str, str], arguments: Sequence[str]) -> dict[str, Outcome]:
    report.unlink(missing_ok=True)
    options = ["-q", "-p", "no:cacheprovider", f"--junit-xml={report}", "-o", "junit_logging=no"]
    subprocess.run([sys.executable, "-m", "pytest", *options, *arguments], cwd=CHECKOUT, env=environment, check=False)
    return read_junit(report)


def _version(environment: dict[str, str], release: Release) -> tuple[str, str]:
    done = subprocess.run(
        ["docker", "version", "--format", "{{json .Server}}"],
        env=environment,
        capture_output=True,
        check=True,
    )
    server = json.loads(done.stdout)
    component = "Podman Engine" if release.podman else "Engine"
    versions = {part["Name"]: part["Version"] for part in server.get("Components", [])}
    return str(versions.get(component, server["Version"])), str(server["ApiVersion"])


def _copy_bot_image(source: str, environment: dict[str, str]) -> None:
    """Hand the bot image over, unless the engine has it: building it takes minutes."""
    there = {**environment, "DOCKER_HOST": source}
    if not (image := _bot_image(environment)):
        with subprocess.Popen(["docker", "save", _bot_image(there)], env=there, stdout=subprocess.PIPE) as saving:
            subprocess.run(["docker", "load", "--quiet"], stdin=saving.stdout, env=environment, check=True)
        image = _bot_image(environment)
    subprocess.run(["docker", "tag", image, BOT_IMAGE], env=environment, check=True)


def _bot_image(environment: dict[str, str]) -> str:
    """The id of the bot image of these very sources: the name may meanwhile be that of another checkout's."""
    found = ["docker", "images", "--quiet", "--filter", f"label={SOURCE_HASH_LABEL}={source_hash()}"]
    done = subprocess.run(found, env=environment, capture_output=True, text=True, check=True)
    return next(iter(done.stdout.split()), "")


if __name__ == "__main__":
    _name, _source, _selection = sys.argv[1:]
    run(_name, _source, _selection).write(run_file(_name))
