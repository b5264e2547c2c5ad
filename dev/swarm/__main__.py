"""Run a command with a swarm: `python -m dev.swarm [--nodes N] [--managers N] [--release NAME] [-- COMMAND …]`.

DOCKER_HOST is the first manager's engine; without a command, a shell runs. The swarm ends with the command.
`python -m dev.swarm --stop` clears the swarms whose owners are dead, should there be any.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dev import docker_command
from dev.debian import MissingEngine
from dev.docker_command import DockerError
from dev.engines.releases import RELEASES
from dev.engines.tree import ensure_tree
from dev.swarm.bed import CHECKOUT, SwarmBed
from dev.swarm.machine import SwarmError
from dev.swarm.record import clear_abandoned


def main(arguments: Sequence[str]) -> int:
    """Start the swarm, run the command, stop the swarm; the exit code is the command's."""
    parser = argparse.ArgumentParser(prog="python -m dev.swarm", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--managers", type=int, default=1)
    parser.add_argument("--release", choices=[name for name in RELEASES if not RELEASES[name].podman])
    parser.add_argument("--stop", action="store_true")
    parser.add_argument("command", nargs="*", default=[os.environ.get("SHELL", "sh")])
    options = parser.parse_args(arguments)
    try:
        if options.stop:
            for record in clear_abandoned():
                print(f"cleared {record.runtime}")
            return 0
        release = RELEASES.get(options.release or "")
        tree = ensure_tree(release, CHECKOUT / ".dev" / "engines") if release else None
        with (
            tempfile.TemporaryDirectory(prefix="swarm-") as directory,
            SwarmBed(Path(directory), nodes=options.nodes, managers=options.managers, tree=tree) as bed,
        ):
            for node in bed.nodes:
                print(f"{node.name} {node.role:7} {node.address} {node.docker_url}", flush=True)
            environment = docker_command.environment(bed.nodes[0].docker_url)
            return subprocess.run(options.command, env=environment, check=False).returncode
    except (MissingEngine, SwarmError, DockerError, OSError) as error:
        print(f"swarm: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
