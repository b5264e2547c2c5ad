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
    "tmux": "tmux",
    "socat": "socat",
    "mkfs.btrfs": "btrfs-progs",
}
# What an engine of ours needs.
ENGINE_PROGRAMS = ("dockerd", "docker", "iptables", "ip", "mmdebstrap", "git")
_POLICY = Path("/usr/sbin/policy-rc.d")
_DOWNLOAD = """
apt-get --quiet download "$1" || { apt-get --quiet update && apt-get --quiet download "$1"; }
dpkg-deb --extract ./*.deb root
"""


class MissingEngine(RuntimeError):  # noqa: N818
    """No engine answers and none can be made here; the message says why in one sentence."""


def add_system_paths() -> None:
    """Programs of root live in directories that a user's PATH may lack."""
    paths = os.environ.get("PATH", os.defpath).split(":")
    paths += [path for path in ("/usr/local/sbin", "/usr/sbin", "/sbin") if path not in paths]
    os.environ["PATH"] = ":".join(paths)


def install(programs: Sequence[str] = ENGINE_PROGRAMS) -> None:
    """Install the packages of those `programs` that are missing, and start none of their services.

    Raises MissingEngine where that is impossible.
    """
    add_system_paths()
    missing = [program for program in programs if shutil.which(program) is None]
    if not missing:
        return
    names = ", ".join(missing)
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise MissingEngine(f"{names}: not installed; only root on Debian or Ubuntu can install it")
    print(f"Installing from Debian's packages: {names}", file=sys.stderr, flush=True)
    _apt("update")
    with _no_service_starts():
        packages = {_package(program) for program in missing}
        _apt("install", "--yes", "--no-install-recommends", "ca-certificates", *sorted(packages))


def unpacked(package: str, program: str, directory: Path) -> Path:
    """Get `program` out of `package` below `directory`, without installing it; return the program's path.

    Raises LookupError where the package cannot be had.
    """
    root = directory / package
    if not root.exists():
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            download = ["sh", "-euc", _DOWNLOAD, "sh", package]
            if subprocess.run(download, cwd=scratch, capture_output=True, check=False).returncode:
                raise LookupError(f"{package}: apt-get cannot download it")
            with contextlib.suppress(OSError):
                Path(scratch, "root").rename(root)  # unless another job has done the same
    for path in root.glob(f"**/bin/{program}"):
        return path
    raise LookupError(f"{package}: has no {program}")


def _package(program: str) -> str:
    package = PROGRAMS[program]
    known = subprocess.run(["apt-cache", "show", package], capture_output=True, check=False).returncode == 0
    return "docker.io" if package == "docker-cli" and not known else package


def _apt(*arguments: str) -> None:
    command = ["apt-get", "--quiet", "-o", "DPkg::Lock::Timeout=300", *arguments]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        print(done.stdout.decode(errors="replace"), file=sys.stderr)
        raise MissingEngine(f"apt-get {arguments[0]} failed with status {done.returncode}, see above")


@contextlib.contextmanager
def _no_service_starts() -> Iterator[None]:
    """Debian's own way to keep packages from starting their services; a policy that is there stays."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
