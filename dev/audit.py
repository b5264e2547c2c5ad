"""Ask the public vulnerability data about every locked requirement: `make audit`, or `python3 -m dev.audit`.

pip-audit of .venv-audit asks the package index and, where that has no such data, OSV. Both need the network. An audit
that could not be carried out is never taken for one that found nothing; the exit code tells them apart:

    0   every requirement was looked up, and none has a known vulnerability but those that are accepted below
    1   there are known vulnerabilities: raise the version (`make lock UPGRADE=--upgrade`), or accept with a reason
    3   the audit did not happen, or not for all: the data is not to be had

requirements/lowest.txt is left out: it is old on purpose, and what it holds is run by its tests alone. The lock of
examples/node_client, too: only npm's own registry has that data, and its mirrors do not. Run `npm audit` there by hand.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
CLEAN, VULNERABLE, NOT_DONE = 0, 1, 3
# The shortest first: where one requirement cannot be looked up, no further one is asked for.
LOCKS = ("uv.txt", "node.txt", "audit.txt", "protoc.txt", "build.txt", "server.txt", "api-tier.txt", "dev.txt")
SERVICES = ("pypi", "osv")
# A vulnerability's id, and why it does no harm here.
ACCEPTED: dict[str, str] = {}
_ENVIRONMENT = CHECKOUT / ".venv-audit"
_SECONDS = 120


@dataclass
class Findings:
    """What the audit of one lock found."""

    looked_up: int = 0
    vulnerable: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Requirements that nothing is known of, or why nothing is known at all."""

    @property
    def complete(self) -> bool:
        """Whether every requirement was looked up."""
        return not self.missing


def ask(lock: str, service: str) -> tuple[str, str]:
    """The output and the error output of pip-audit for a lock."""
    command = [str(_ENVIRONMENT / "bin" / "python"), "-m", "pip_audit"]
    command += ["--requirement", str(CHECKOUT / "requirements" / lock), "--require-hashes", "--disable-pip"]
    command += ["--vulnerability-service", service, "--format", "json", "--progress-spinner", "off"]
    command += ["--timeout", "15", "--cache-dir", str(_ENVIRONMENT / "cache")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return "", f"no answer within {_SECONDS} s"
    return done.stdout, done.stderr


def read(output: str, errors: str) -> Findings:
    """The findings in pip-audit's JSON; without any, its last words."""
    try:
        dependencies = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return Findings(missing=[(errors.strip().splitlines() or ["pip-audit said nothing"])[-1]])
    if not dependencies:
        return Findings(missing=["pip-audit looked nothing up"])
    found = Findings()
    for each in dependencies:
        # pip-audit counts these as well: it says "no known vulnerabilities" of a package that nobody knows.
        if "skip_reason" in each:
            found.missing.append(each["skip_reason"])
            continue
        found.looked_up += 1
        for vulnerability in each["vulns"]:
            names = {vulnerability["id"], *vulnerability.get("aliases", ())}
            if not names & ACCEPTED.keys():
                fixed = ", ".join(vulnerability.get("fix_versions", ())) or "no version yet"
                found.vulnerable.append(f"{each['name']} {each['version']}: {vulnerability['id']}, mended in {fixed}")
    return found


def audit(locks: Iterable[str], asked: Callable[[str, str], tuple[str, str]] = ask) -> int:
    """Audit the locks, print the findings, and return the exit code."""
    status = CLEAN
    for lock in locks:
        reasons = []
        for service in SERVICES:
            found = read(*asked(lock, service))
            reasons += [f"{service}: {found.missing[0][:200]}"] if found.missing else []
            if found.complete or found.vulnerable:
                break
        for line in found.vulnerable:
            print(f"audit: {lock}: {line}")
            status = VULNERABLE
        if not found.complete:
            print(f"audit: THE AUDIT DID NOT HAPPEN, from {lock} on ({found.looked_up} of its lines were looked up)")
            print(*(f"audit: {reason}" for reason in reasons), sep="\n")
            return status or NOT_DONE
        print(f"audit: {lock}: {found.looked_up} requirements looked up, {len(found.vulnerable)} vulnerabilities")
    return status


if __name__ == "__main__":
    sys.exit(audit(LOCKS))
