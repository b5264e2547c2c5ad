"""The Python image that the deployed images are built on.

It is the one that deploy/Dockerfile names where the engine has it or can pull it; else one is made from Debian's
packages alone, which needs root on Debian or Ubuntu.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dev import docker_command
from dev.debian import MissingEngine, install
from dev.docker_command import DockerError

CHECKOUT = Path(__file__).resolve().parent.parent
OFFLINE_IMAGE = "botmaker/python:3.11-slim-bookworm"
SYSTEM_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"

_SUITE = "bookworm"
_PULL_TIMEOUT_SECONDS = 120
# Where programs look for the certificates that a machine trusts beyond Debian's own.
_BUNDLE_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def ensure_python_base(docker_host: str) -> str:
    """Find, pull or make the base image; return its tag. Raises DockerError."""
    pinned = pinned_image()
    for tag in (pinned, OFFLINE_IMAGE):
        if docker_command.succeeds(docker_host, "image", "inspect", tag):
            return tag
    # The official image would not trust what this machine trusts.
    pull = ("pull", "--quiet", pinned)
    if not extra_certificates() and docker_command.succeeds(docker_host, *pull, timeout=_PULL_TIMEOUT_SECONDS):
        return pinned
    make_debian_image(docker_host, OFFLINE_IMAGE, ["ca-certificates", "python3", "python3-venv"], 'CMD ["python3"]')
    return OFFLINE_IMAGE


def pinned_image() -> str:
    """The base image that deploy/Dockerfile names."""
    match = re.search(r"^ARG BASE_IMAGE=(\S+)$", (CHECKOUT / "deploy" / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    if match is None:
        raise DockerError("deploy/Dockerfile has no ARG BASE_IMAGE=…")
    return match[1]


def extra_certificates() -> Path | None:
    """The file with the certificates that this machine trusts beyond Debian's own, if it does."""
    named = [Path(os.environ[name]) for name in _BUNDLE_VARIABLES if os.environ.get(name)]
    if any(Path("/usr/local/share/ca-certificates").glob("*.crt")):
        named.append(Path(SYSTEM_BUNDLE))
    return next((path for path in named if path.is_file()), None)


def make_debian_image(docker_host: str, tag: str, packages: Sequence[str], *changes: str) -> None:
    """Make an image of Debian's packages that trusts what this machine trusts. Raises DockerError."""
    print(f"Making {tag} from Debian's packages", file=sys.stderr, flush=True)
    try:
        install(("docker", "mmdebstrap"))
    except MissingEngine as error:
        raise DockerError(f"{tag} cannot be made here: {error}") from error
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}"]
    command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "locale", "doc")]
    command += ["--dpkgopt=path-include=/usr/share/doc/*/copyright"]
    if (bundle := extra_certificates()) is not None:
        command += [f'--customize-hook=cat {shlex.quote(str(bundle))} >>"$1{SYSTEM_BUNDLE}"']
    command += [_SUITE, "-", *os.environ.get("DEBIAN_MIRROR", "").split()]
    made = subprocess.run(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=False)
    if made.returncode:
        raise DockerError(f"mmdebstrap failed with status {made.returncode}, see above")
    details = [word for change in changes for word in ("--change", change)]
    docker_command.run(docker_host, "import", *details, "-", tag, stdin=made.stdout)
