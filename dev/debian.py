"""Programs from Debian's (or Ubuntu's) packages: installed, or only unpacked where installing would start a service."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

# Program -> package. The command line client is a package of its own in newer releases.
PROGRAMS = {
    "dockerd": "docker.io",
    "docker": "docker-cli",
    "iptables": "iptables",
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "git": "git",
    "docker-compose": "docker-compose",
}
# What an engine of ours needs.
ENGINE_PROGRAMS = ("dockerd", "docker", "iptables", "ip", "mmdebstrap", "git")
_POLICY = Path("/usr/sbin/policy-rc.d")
_ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}


class MissingEngine(RuntimeError):  # noqa: N818
    """No engine answers and none can be made here; the message says why in one sentence."""


def add_system_paths() -> None:
    """Programs of root live in directories that a user's PATH may lack."""
    paths = os.environ.get("PATH", os.defpath).split(":")
    paths += [path for path in ("/usr/local/sbin", "/usr/sbin", "/sbin") if path not in paths]
    os.environ["PATH"] = ":".join(paths)


def install(programs: Sequence[str] = ENGINE_PROGRAMS) -> list[str]:
    """Install the packages of those `programs` that are missing; return the packages' names.

    Services that these packages bring are not started now, since ours are private ones.
    Raises MissingEngine where that is impossible.
    """
    add_system_paths()
    missing = [program for program in programs if shutil.which(program) is None]
    if not missing:
        return []
    names = ", ".join(missing)
    if shutil.which("apt-get") is None:
        raise MissingEngine(f"{names}: not installed, and this is no Debian or Ubuntu on which to install it")
    if os.geteuid() != 0:
        raise MissingEngine(f"{names}: not installed, and only root can install it")
    print(f"Installing from Debian's packages: {names}", file=sys.stderr, flush=True)
    _apt("update")
    packages = sorted({_package(program) for program in missing})
    with _no_service_starts():
        _apt("install", "--yes", "--no-install-recommends", "ca-certificates", *packages)
    still = [program for program in missing if shutil.which(program) is None]
    if still:
        raise MissingEngine(f"{', '.join(packages)}: installed, but {', '.join(still)} is still not found")
    return packages


def unpacked(package: str, program: str, directory: Path) -> Path:
    """Get `program` out of `package` below `directory`, without installing it; return the program's path.

    Raises LookupError where the package cannot be had.
    """
    found = _find(directory / package, program)
    if found:
        return found
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise LookupError(f"{package}: this is no Debian or Ubuntu")
    with tempfile.TemporaryDirectory() as scratch:
        # apt's own user writes here.
        Path(scratch).chmod(0o755)
        if _run(["apt-get", "--quiet", "download", package], cwd=scratch).returncode and os.geteuid() == 0:
            _run(["apt-get", "--quiet", "update"])
            _run(["apt-get", "--quiet", "download", package], cwd=scratch)
        archives = sorted(Path(scratch).glob("*.deb"))
        if not archives:
            raise LookupError(f"{package}: apt-get cannot download it")
        partial = Path(scratch) / "root"
        subprocess.run(["dpkg-deb", "--extract", archives[0], partial], check=True)
        directory.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(directory / package, ignore_errors=True)
        shutil.move(partial, directory / package)
    found = _find(directory / package, program)
    if not found:
        raise LookupError(f"{package}: has no {program}")
    return found


def _find(root: Path, program: str) -> Path | None:
    return next((path for path in root.glob(f"**/bin/{program}") if os.access(path, os.X_OK)), None)


def _package(program: str) -> str:
    package = PROGRAMS[program]
    if package == "docker-cli" and _run(["apt-cache", "show", package]).returncode:
        return "docker.io"
    return package


def _run(command: Sequence[str], cwd: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **_ENVIRONMENT},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )


def _apt(*arguments: str) -> None:
    done = _run(["apt-get", "--quiet", "-o", "DPkg::Lock::Timeout=300", *arguments])
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        raise MissingEngine(f"apt-get {arguments[0]} failed with status {done.returncode}, see above")


@contextlib.contextmanager
def _no_service_starts() -> Iterator[None]:
    """Debian's own way to keep packages from starting their services; a policy that is there stays."""
    try:
        descriptor = os.open(_POLICY, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755)
    except FileExistsError:
        yield
        return
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write("#!/bin/sh\nexit 101\n")
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
