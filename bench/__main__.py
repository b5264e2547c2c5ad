"""Measure the service beside the raw engine and the docker SDK, on the engine of DOCKER_HOST: `python -m bench`.

Every container that it makes carries a label of this run, and is removed at the end, also after Ctrl-C and a failure;
nothing else on the engine is touched. Aims are told as met or not met; neither makes it fail.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from bench import busy, footprint, large, lifecycle, logs, observability, reads, report, sameness, sync, watchers
from bench.belongings import Belongings
from bench.candidates import NAMES
from bench.child import ChildError
from bench.engine_http import RawEngine
from bench.report import Part
from bench.sameness import DifferentContainersError
from bench.served_process import StartError
from bench.service_process import ServiceProcess
from bench.worker import Worker
from dev.images import ImageError, ensure_test_image

_PARTS = ("footprint", "large", "watchers", "logs", "busy", "observability", "lifecycle", "reads", "sync")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(arguments: Sequence[str]) -> int:
    """Run it; 0 when measured, 1 when that failed, 2 for wrong options, 130 when interrupted."""
    options = _options(arguments)
    docker_host: str = options.docker_host
    try:
        version = RawEngine(docker_host).version()
    except (ValueError, OSError) as exc:
        print(f"bench: no Docker Engine answers at {docker_host or 'DOCKER_HOST'}: {exc}", file=sys.stderr)
        return 2
    circumstances = report.machine(version)
    try:
        with _interruptible(), _belongings(docker_host, options.image or ensure_test_image(docker_host)) as belongings:
            parts = _measure(belongings, docker_host, options)
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    except (ImageError, ChildError, StartError, DifferentContainersError) as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 1
    report.publish(parts, {**circumstances, "load average after": report.load()})
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--docker-host", default=os.environ.get("DOCKER_HOST", ""), help="default: $DOCKER_HOST")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and containers: for a first look")
    parser.add_argument("--only", choices=_PARTS, action="append", metavar="NAME", help=f"{', '.join(_PARTS)}")
    parser.add_argument("--containers", type=_numbers, help="how many to read from; default 1,100,500")
    parser.add_argument("--at-once", type=_numbers, help="how many lifecycles at a time; default 1,8,32")
    parser.add_argument("--rounds", type=_positive, help="rounds of every measurement, and starts")
    parser.add_argument("--image", help="an image on the engine that has `sleep`; default: the tests' own")
    return parser.parse_args(arguments)


def _measure(belongings: Belongings, docker_host: str, options: argparse.Namespace) -> list[Part]:
    wanted = options.only or _PARTS
    shared: dict[str, Any] = {"rounds": options.rounds, "quick": options.quick}
    # Each begins with an engine that is quiet and has none of our containers; the reads' idle ones serve sync, too.
    alone: dict[str, Callable[[], Part]] = {
        "footprint": lambda: footprint.measure(belongings, docker_host, **shared),
        "large": lambda: large.measure(belongings, **shared),
        "watchers": lambda: watchers.measure(belongings, docker_host, **shared),
        "logs": lambda: logs.measure(belongings, docker_host, **shared),
        "busy": lambda: busy.measure(belongings, docker_host, quick=options.quick),
        "observability": lambda: observability.measure(belongings, docker_host, **shared),
    }
    parts = []
    for name, measure in alone.items():
        if name in wanted:
            parts.append(measure())
            belongings.remove_containers()
    if {"lifecycle", "reads"} & set(wanted):
        parts += _compare(belongings, docker_host, options, shared)
    if "sync" in wanted:
        parts.append(sync.measure(belongings, docker_host, **shared))
    return parts


def _compare(
    belongings: Belongings, docker_host: str, options: argparse.Namespace, shared: dict[str, Any]
) -> Iterator[Part]:
    """The parts that put all ways to the engine beside each other."""
    wanted = options.only or _PARTS
    with ExitStack() as stack:
        service = stack.enter_context(ServiceProcess(belongings, docker_host, "service"))
        setting = belongings.setting(service.target)
        workers = [stack.enter_context(Worker(name, setting)) for name in NAMES]
        sameness.check(workers, belongings, docker_host)
        belongings.remove_containers()
        if "lifecycle" in wanted:
            at_once = options.at_once or (lifecycle.QUICK_AT_ONCE if options.quick else lifecycle.AT_ONCE)
            yield lifecycle.measure(workers, belongings, at_a_time=at_once, **shared)
        if "reads" in wanted:
            containers = options.containers or (reads.QUICK_CONTAINERS if options.quick else reads.CONTAINERS)
            yield reads.measure(workers, belongings, docker_host, service.target, containers=containers, **shared)


@contextmanager
def _belongings(docker_host: str, image: str) -> Iterator[Belongings]:
    belongings = Belongings(docker_host, image)
    try:
        yield belongings
    finally:
        # By now the children and services, which are the ones to make containers, have ended.
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        try:
            belongings.remove_containers()
        finally:
            belongings.remove_scratch()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Every usual way to end a process from outside unwinds it, so that what was made is removed."""

    def interrupt(_number: int, _frame: Any) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        print("bench: stopping, and removing what was made", file=sys.stderr, flush=True)
        raise KeyboardInterrupt

    before: dict[int, Any] = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _numbers(text: str) -> list[int]:
    return [_positive(part) for part in text.split(",")]


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
