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
from dev.engines.releases import RELEASES
from dev.engines.tree import ensure_tree, write_dockerd
from dev.images import BOT_IMAGE, CHECKOUT, has_bot_image
from dev.junit import Outcome, Verdict, read_junit

STATE = CHECKOUT / ".dev" / "engines"
# The bot image's entry point renders the same on each engine, and its tests take as long as all others.
_TESTS = ["-m", "not slow", "--ignore=tests/engine/test_bot_image.py", "tests/engine"]
# More failures than these are not caused by a busy machine.
_TRIED_AGAIN = 20


@dataclass(frozen=True)
class Run:
    """The outcomes of the tests on one engine."""

    version: str
    api_version: str
    outcomes: dict[str, Outcome]
    second: tuple[str, ...] = ()
    """The tests that passed only when they ran again, alone."""
    selection: str = ""
    """Pytest's expression (-k) for what was run; empty for all of the tests."""

    def write(self, path: Path) -> None:
        """Keep it for the table, which needs the runs on all engines."""
        outcomes = {test: [int(outcome.verdict), outcome.message] for test, outcome in self.outcomes.items()}
        path.write_text(json.dumps({**vars(self), "outcomes": outcomes}, indent=1), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Run":
        """A run that was kept."""
        found = json.loads(path.read_text(encoding="utf-8"))
        outcomes = {test: Outcome(Verdict(verdict), text) for test, (verdict, text) in found["outcomes"].items()}
        return cls(**{**found, "outcomes": outcomes, "second": tuple(found["second"])})


def run_file(name: str) -> Path:
    """Where the last run on this engine is kept."""
    return STATE / name / "run.json"


def run(name: str, source: str, selection: str) -> Run:
    """Start the engine, run the tests on it, stop it."""
    release, directory = RELEASES[name], STATE / name
    dockerd = write_dockerd(release, ensure_tree(release, STATE), directory / "bin")
    engine = PrivateEngine(directory / "engine", dockerd=str(dockerd))
    engine.stop()  # clears what a run that was killed has left
    with engine:
        server = json.loads(docker_command.run(engine.url, "version", "--format", "{{json .Server}}"))
        versions = {part["Name"]: part["Version"] for part in server.get("Components", [])}
        version = versions.get("Podman Engine", server["Version"])
        if not version.startswith(release.version):
            raise SystemExit(f"{name}: Debian {release.suite} now has {version}; change dev/engines/releases.py")
        if not selection and not has_bot_image(engine.url):
            copy = f'docker --host "$1" save {BOT_IMAGE} | docker --host "$2" load --quiet'
            subprocess.run(["sh", "-c", copy, "sh", source, engine.url], check=True)
        environment = {**docker_command.environment(engine.url), "PATH": f"{dockerd.parent}:{os.environ['PATH']}"}
        report = directory / "report.xml"
        outcomes = _pytest(report, environment, [*_TESTS, "-k", selection])
        again = list(differences.unexplained(name, outcomes, differences.read()))
        second: list[str] = []
        if again and len(again) <= _TRIED_AGAIN:
            outcomes |= _pytest(report, environment, again)
            second = [test for test in again if outcomes[test].verdict is Verdict.PASSED]
        return Run(version, server["ApiVersion"], outcomes, tuple(second), selection)


def _pytest(report: Path, environment: dict[str, str], arguments: Sequence[str]) -> dict[str, Outcome]:
    report.unlink(missing_ok=True)
    options = ["-q", "-p", "no:cacheprovider", f"--junit-xml={report}", "-o", "junit_logging=no"]
    subprocess.run([sys.executable, "-m", "pytest", *options, *arguments], cwd=CHECKOUT, env=environment, check=False)
    return read_junit(report)


if __name__ == "__main__":
    _name, _source, _selection = sys.argv[1:]
    run(_name, _source, _selection).write(run_file(_name))
