"""Podman's Docker-compatible service, started by dockerd's options: `python -m dev.engines.podman WITHIN TREE OPTION…`.

PrivateEngine starts it as it starts dockerd. Storage, networks and settings are its own, so that a Podman of the
machine, or another one of the tests, neither sees nor loses anything.
"""

import hashlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path

_SETTINGS = """\
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
helper_binaries_dir = ["/usr/lib/podman", "/usr/libexec/podman"]
tmp_dir = "{runtime}/tmp"
lock_type = "file"
runtime = "runc"
[network]
network_config_dir = "{data}/networks"
firewall_driver = "iptables"
[containers]
log_driver = "k8s-file"
default_ulimits = [{limits}]
"""
_STORAGE = """\
[storage]
driver = "overlay"
runroot = "{runtime}/root"
graphroot = "{data}/storage"
"""
# As dockerd does: names without a registry are Docker Hub's, and a registry on the loopback needs no TLS.
_REGISTRIES = """\
unqualified-search-registries = ["docker.io"]
[[registry]]
prefix = "*.0.0.1"
insecure = true
"""
_POLICY = {"default": [{"type": "insecureAcceptAnything"}]}


def command(within: str, tree: str, options: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The command that replaces a dockerd with these options, and the variables that it needs."""
    given = dict(option.removeprefix("--").split("=", 1) for option in options if "=" in option)
    runtime, data = Path(given["exec-root"]).parent / "podman", Path(given["data-root"])
    if not runtime.exists():
        # The database keeps the paths of its first run, which are gone; images are not in it.
        (data / "storage" / "db.sql").unlink(missing_ok=True)
    settings = _write_settings(runtime, data)
    private = {runtime / "run" / name: Path("/run", name) for name in ("netns", "containers")}
    private[settings] = Path("/etc/containers")
    for directory in (*private, *private.values()):
        directory.mkdir(parents=True, exist_ok=True)
    _write_network(data, given["bridge"])
    environment = {
        # Root's own settings do not apply.
        "HOME": str(runtime),
        "CONTAINERS_CONF": str(settings / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(settings / "storage.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(settings / "registries.conf"),
        # What it puts there it does not always take away.
        "BIND": " ".join(f"{own}:{common}" for own, common in private.items()),
        # Containers outlive the service; their mounts must be there when it comes again.
        "HOLD": str(settings / "containers.conf"),
        "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
    }
    return [within, tree, "podman", "system", "service", "--time=0", given["host"]], environment


def _write_settings(runtime: Path, data: Path) -> Path:
    settings = runtime / ".config" / "containers"
    texts = {
        "containers.conf": _SETTINGS.format(runtime=runtime, data=data, limits=_limits()),
        "storage.conf": _STORAGE.format(runtime=runtime, data=data),
        "registries.conf": _REGISTRIES,
        "policy.json": json.dumps(_POLICY),
    }
    settings.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (settings / name).write_text(text, encoding="utf-8")
    return settings


def _limits() -> str:
    """The machine's own: even root cannot give more where it lacks CAP_SYS_RESOURCE, and a build would try."""
    hard = {
        "nofile": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        "nproc": resource.getrlimit(resource.RLIMIT_NPROC)[1],
    }
    return ", ".join(f'"{name}={limit}:{limit}"' for name, limit in hard.items())


def _write_network(data: Path, bridge: str) -> None:
    """The default network: a bridge of its own with the last addresses of those that were kept free for the engine."""
    shown = subprocess.run(["ip", "-4", "-json", "addr", "show", "dev", bridge], capture_output=True, check=True)
    address = json.loads(shown.stdout)[0]["addr_info"][0]["local"]
    pool = IPv4Interface(f"{address}/20").network
    subnet: IPv4Network = list(pool.subnets(new_prefix=24))[-1]
    network = {
        "name": "podman",
        "id": hashlib.sha256(bridge.encode()).hexdigest(),
        "driver": "bridge",
        "network_interface": bridge.replace("bm-", "pm-"),
        "created": "2026-01-01T00:00:00Z",
        "subnets": [{"subnet": str(subnet), "gateway": str(subnet[1])}],
        "ipv6_enabled": False,
        "internal": False,
        "dns_enabled": False,
        "ipam_options": {"driver": "host-local"},
    }
    directory = data / "networks"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "podman.json").write_text(json.dumps(network), encoding="utf-8")


if __name__ == "__main__":
    _within, _tree, *_options = sys.argv[1:]
    _command, _environment = command(_within, _tree, _options)
    # Where its conmon leaves a file `oom` for each container that ran out of memory.
    os.chdir(_environment["HOME"])
    os.execvpe(_command[0], _command, {**os.environ, **_environment})
