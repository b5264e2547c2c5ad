"""The engines that the tests are run on, and where each comes from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Release:
    """One engine, from the packages of one Debian release."""

    title: str
    version: str
    """How its version must begin. The run fails if the Debian release has moved on to another version."""
    suite: str
    packages: tuple[str, ...]
    aptopts: tuple[str, ...] = ()
    podman: bool = False
    selection: str = ""
    """Which tests are run on it unless others are asked for: pytest's expression (-k); empty: all."""


_DOCKER = ("docker.io", "iptables", "iproute2", "procps", "ca-certificates")
_PODMAN = ("podman", "crun", "netavark", "aardvark-dns", "catatonit")

RELEASES = {
    "docker-20.10": Release("Docker 20.10", "20.10.", "bookworm", _DOCKER),
    # Podman's packages too: the tree and its stamp are per suite, and would be made anew whenever the two take turns.
    "docker-26.1": Release("Docker 26.1", "26.1.", "trixie", (*_DOCKER, *_PODMAN)),
    # Snapshots of sid are signed for a week, and mirrors may keep them for longer.
    "docker-28.5": Release("Docker 28.5", "28.5.", "sid", _DOCKER, ('Acquire::Check-Valid-Until "false"',)),
    "podman-5.4": Release("Podman 5.4", "5.4.", "trixie", (*_DOCKER, *_PODMAN), podman=True, selection="conformance"),
}
