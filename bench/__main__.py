"""Measure the service beside the raw engine and the docker SDK, on the engine of DOCKER_HOST: ``python -m bench``.

With ``--swarm``, measure it on a swarm of machines on this one, beside the manager's own API (:mod:`bench.swarm`).

Every container that it makes has a label of this run and is removed at the end, also after Ctrl-C and a failure.
Nothing else on the engine is touched. A missed aim does not fail the run.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench import footprint, latency, lifecycle, logs, reads, report, swarm, watchers
from bench.engine_http import RawEngine
from bench.processes import ProcessError
from bench.report import Part
from bench.run import FULL, QUICK, SMOKE, Run
from dev.debian import MissingEngine
from dev.docker_command import DockerError
from dev.images import ensure_test_image
from dev.swarm import SwarmBed, SwarmError

# The footprint goes on with the containers of the reads.
_MODULES = (watchers, logs, latency, lifecycle, reads, footprint)
PARTS: dict[str, Callable[[Run], Part]] = {m.__name__.removeprefix("bench."): m.measure for m in _MODULES}


def main(arguments: Sequence[str]) -> int:
    """Run it: 0 when measured, 1 when that failed, 2 for wrong options or no engine, 130 when interrupted."""
    options = _options(arguments)
    # Every usual way to end a process unwinds it, so that what was made is removed.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    if options.scale != SMOKE and not options.swarm:
        try:
            RawEngine(options.docker_host).version()
        except (ValueError, OSError) as exc:
            print(f"bench: no Docker Engine answers at {options.docker_host or 'DOCKER_HOST'}: {exc}", file=sys.stderr)
            return 2
    try:
        with ExitStack() as stack:
            docker_host, image = options.docker_host, "smoke"
            if options.swarm:
                directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-swarm-")))
                bed = stack.enter_context(SwarmBed(directory, settings=swarm.ENGINE_SETTINGS))
                docker_host = bed.nodes[0].docker_url
                image = bed.load_image(ensure_test_image(docker_host))
            elif options.scale != SMOKE:
                image = ensure_test_image(docker_host)
            run = stack.enter_context(Run(docker_host, image, options.scale, options.rounds))
            _measure(run, options.parts)
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    except (DockerError, ProcessError, SwarmError, MissingEngine) as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 1
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; default: all")
    parser.add_argument("--docker-host", default=os.environ.get("DOCKER_HOST", ""), help="default: $DOCKER_HOST")
    parser.add_argument("--rounds", type=int, help="rounds of each measurement; more make intervals narrower")
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--quick", dest="scale", action="store_const", const=QUICK, help="a first look, in minutes")
    scale.add_argument("--smoke", dest="scale", action="store_const", const=SMOKE, help="test the benchmark itself")
    parser.add_argument("--swarm", action="store_true", help=f"as root, on a swarm: {', '.join(swarm.PARTS)}")
    parser.set_defaults(scale=FULL)
    options = parser.parse_args(arguments)
    known = swarm.PARTS if options.swarm else PARTS
    if unknown := sorted(set(options.parts) - set(known)):
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(known)}")
    if options.swarm and options.scale == SMOKE:
        parser.error("--smoke has no swarm")
    options.parts = {name: part for name, part in known.items() if name in (options.parts or known)}
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    return options


def _measure(run: Run, wanted: Mapping[str, Callable[[Run], Part]]) -> None:
    around = report.circumstances(RawEngine(run.docker_host).version())
    parts = []
    for name, measure in wanted.items():
        parts.append(measure(run))
        if name != "reads":
            run.remove_containers()
    around["load average after"] = report.load()
    report.publish(parts, around)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
