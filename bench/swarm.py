"""Measure the service on a swarm beside the manager's raw HTTP API: ``python -m bench.swarm``, as root.

It starts a swarm of three machines on this one (:mod:`dev.swarm`) and the service beside its manager. With 500 bots,
each with a service and a task that waits for a node that does not exist:

* status and list, which come from the service's memory, beside an empty service that answers with the same bytes, and
  beside ``/services`` and ``/tasks`` of the manager;
* the cost of polling (:mod:`bench.poller`) while nothing changes, and while something does.

Without them, the time from a start until the bot runs, beside the same by the raw API.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench import report
from bench.clients import BARE, ECHO, SERVICE, Setting
from bench.engine_http import MANAGED, RawEngine, container_name
from bench.figures import ms, ratio
from bench.poller import Poller
from bench.processes import Child, Program
from bench.report import Part
from bench.run import FULL, QUICK, SLEEP, Run, status_answer
from botmaker.container.v1 import bot_provisioner_pb2 as provisioner_pb
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager_client import connect
from dev.images import TEST_IMAGE, ensure_test_image
from dev.swarm import SwarmBed

BOTS = 500
_RAW, _ANSWER = "raw HTTP", "service, its answer"
_NOWHERE = {"Constraints": ["node.labels.none==1"]}
_POLL_SECONDS = 0.01
_SETTINGS = {"no-new-privileges": True}

Json = dict[str, Any]


class _Manager(RawEngine):
    """The manager's raw API."""

    def services(self) -> list[Json]:
        """Every bot's service."""
        found: list[Json] = self.get(f"/services?{_filtered(MANAGED)}")
        return found

    def tasks(self) -> list[Json]:
        """Every bot's tasks."""
        found: list[Json] = self.get(f"/tasks?{_filtered(MANAGED)}")
        return found

    def get(self, path: str) -> Any:
        """The document at a path."""
        return json.loads(self._request("GET", path))

    def update(self, name: str, change: Callable[[Json], Json]) -> None:
        """Change the specification of a service."""
        document = self.get(f"/services/{name}")
        path = f"/services/{name}/update?version={document['Version']['Index']}"
        self._request("POST", path, json.dumps(change(document["Spec"])))

    def remove_service(self, name: str) -> None:
        """Remove a service."""
        self._request("DELETE", f"/services/{name}")

    def start(self, name: str) -> None:
        """Give a service a replica, and wait until it runs."""
        self.update(name, _with_replica)
        self.await_running(name)

    def await_running(self, name: str) -> None:
        """Wait until a service runs."""
        query = f"/tasks?filters={json.dumps({'service': [name]}, separators=(',', ':'))}"
        while not any(task["Status"]["State"] == "running" for task in self.get(query)):
            time.sleep(_POLL_SECONDS)


def main(arguments: Sequence[str]) -> int:
    """Run it; 0 when measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.swarm", description=(__doc__ or "").split(":")[0])
    parser.add_argument("--quick", action="store_true", help="a first look")
    scale = QUICK if parser.parse_args(arguments).quick else FULL
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-swarm-")))
        bed = stack.enter_context(SwarmBed(directory, settings=_SETTINGS))
        bed.load_image(ensure_test_image(bed.nodes[0].docker_url))
        run = stack.enter_context(Run(bed.nodes[0].docker_url, f"{bed.registry}/{TEST_IMAGE}", scale, None))
        manager = stack.enter_context(closing(_Manager(run.docker_host)))
        around = report.circumstances(manager.version())
        options = ("--backend", "swarm", "--allow-weaker", "no-new-privileges", "--placement", "floating")
        with run.service(*options) as service:
            parts = [_starts(run, service, manager), _reads(run, service, manager)]
        # The service polls too, and would share the manager.
        parts.append(_polling(run, manager))
        around["load average after"] = report.load()
        report.publish(parts, around, "swarm.json")
    return 0


def _starts(run: Run, service: Program, manager: _Manager) -> Part:
    """From a start until the bot runs."""
    part, rounds = Part("starts"), run.rounds(40, 8, 1)
    print(f"starts: {rounds} rounds", flush=True)
    # The service also waits whether the program can be executed.
    seconds: dict[str, list[float]] = {SERVICE: [], _ANSWER: [], _RAW: []}
    draw = random.Random(5)
    with run.client(SERVICE, Setting("", service.target)) as client:
        for _ in range(rounds + 1):
            bots = _made(run, service, 2)
            for name, bot_id in draw.sample([*zip((SERVICE, _RAW), bots, strict=True)], 2):
                begun = time.perf_counter()
                if name == SERVICE:
                    answer = client.begin("each", "start", [bot_id])
                    manager.await_running(container_name(bot_id))
                else:
                    manager.start(container_name(bot_id))
                seconds[name].append(time.perf_counter() - begun)
                if name == SERVICE:
                    answer.result()
                    seconds[_ANSWER].append(time.perf_counter() - begun)
            for bot_id in bots:
                manager.remove_service(container_name(bot_id))
    # The first round warms up.
    seconds = {name: times[1:] for name, times in seconds.items()}
    rows = [[name, ms(median(times)), str(ratio(times, seconds[_RAW]))] for name, times in seconds.items()]
    part.table(f"From a start until the bot runs (ms, medians of {rounds})", ["", "start", f"to {_RAW} [95 %]"], rows)
    part.samples = seconds
    part.at_most(f"start until it runs: {SERVICE} / {_RAW}", ratio(seconds[SERVICE], seconds[_RAW]), 1.3)
    return part


def _reads(run: Run, service: Program, manager: _Manager) -> Part:
    """Status and list of many bots."""
    part, bots, rounds = Part("reads"), run.pick(BOTS, BOTS, 5), run.rounds(40, 12, 1)
    print(f"reads: {bots} bots, {rounds} rounds", flush=True)
    bot_ids = _made(run, service, bots)
    for bot_id in bot_ids:
        manager.update(container_name(bot_id), lambda spec: _with_replica(_nowhere(spec)))
    _wait(lambda: len(manager.tasks()) >= bots)
    # The view has what was changed by hand when it has the last of it.
    time.sleep(2)
    statuses: dict[str, list[float]] = {SERVICE: [], BARE: [], ECHO: []}
    lists: dict[str, list[float]] = {SERVICE: [], _RAW: []}
    draw = random.Random(3)
    with ExitStack() as stack:
        echo = run.echo(status_answer(service, bot_ids[0]))
        targets = {SERVICE: service.target, BARE: service.target, ECHO: echo.target}
        clients = {name: stack.enter_context(run.client(name, Setting("", to))) for name, to in targets.items()}
        for number in range(rounds + 1):
            asked = draw.choices(bot_ids, k=40)
            for name in draw.sample(list(statuses), len(statuses)):
                seconds, _ = clients[name].call("each", "status", asked)
                statuses[name] += [median(seconds)] if number else []
            seconds, listed = clients[SERVICE].call("each", "list", [""] * 4)
            assert listed == bots, f"{listed} bots are listed, not {bots}"
            lists[SERVICE] += [median(seconds)] if number else []
            begun = time.perf_counter()
            manager.services(), manager.tasks()
            lists[_RAW] += [time.perf_counter() - begun] if number else []
    rows = [[name, ms(median(times)), str(ratio(times, statuses[ECHO]))] for name, times in statuses.items()]
    part.table(f"Status, {bots} bots (ms, medians of {rounds})", ["", "status", f"to {ECHO} [95 %]"], rows)
    rows = [[name, ms(median(times)), str(ratio(times, lists[_RAW]))] for name, times in lists.items()]
    part.table(f"List, {bots} bots (ms, medians of {rounds})", ["", "list", f"to {_RAW} [95 %]"], rows)
    part.samples = {"status": statuses, "list": lists}
    part.at_most(f"status p50: {BARE} / {ECHO}", ratio(statuses[BARE], statuses[ECHO]), 1.2)
    part.at_least(f"list of {bots}: {_RAW} / {SERVICE}", ratio(lists[_RAW], lists[SERVICE]), 15)
    return part


def _polling(run: Run, manager: _Manager) -> Part:
    """The cost of polling, with the bots of the reads."""
    part, seconds = Part("polling"), run.pick(30, 10, 1)
    name = manager.services()[0]["Spec"]["Name"]
    rows = []
    for changes in (False, True):
        print(f"polling, {'with' if changes else 'without'} changes: {1.5 * seconds:.0f} s", flush=True)
        with Child(Poller, run.docker_host) as poller, _changing(run.docker_host, name) if changes else ExitStack():
            figures = poller.call("measure", seconds)
        what = "something changes every half a second" if changes else "nothing changes"
        share = 100 * figures["cpu_seconds"] / figures["seconds"]
        polls = f"{figures['polls'] / figures['seconds']:.1f}"
        rows.append([what, f"{share:.2f} %", polls, ms(figures["longest_step_seconds"])])
        part.samples[what] = figures
        part.at_most(f"polling, {what}: share of a core", share, 5.0, " %")
    part.table(
        f"Polling and live view, {len(manager.services())} bots that wait for a node",
        ["", "of a core", "polls/s", "longest step (ms)"],
        rows,
    )
    return part


def _made(run: Run, service: Program, count: int) -> list[str]:
    """Bots with a secret and a service that does not run, made some at a time."""
    bot_ids, request = run.new_bots(count), run.request(command=SLEEP)
    with connect(service.target) as channel, ThreadPoolExecutor(8) as pool:
        manager, provisioner = ContainerManagerStub(channel), BotProvisionerStub(channel)

        def make(bot_id: str) -> None:
            provisioner.PutSecrets(
                provisioner_pb.PutSecretsRequest(bot_id=bot_id, secrets={"GATEWAY_TOKEN": b"secret"})
            )
            manager.CreateContainer(pb.CreateContainerRequest(bot_id=bot_id, config=request.config))

        list(pool.map(make, bot_ids))
    return bot_ids


@contextmanager
def _changing(docker_host: str, name: str) -> Iterator[None]:
    """Change a service every half a second."""
    ended = threading.Event()

    def change() -> None:
        with closing(_Manager(docker_host)) as manager:
            number = 0
            while not ended.wait(0.5):
                number += 1
                manager.update(name, partial(_labelled, str(number)))

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _filtered(label: str) -> str:
    return f"filters={json.dumps({'label': [label]}, separators=(',', ':'))}"


def _with_replica(spec: Json) -> Json:
    return {**spec, "Mode": {"Replicated": {"Replicas": 1}}}


def _labelled(value: str, spec: Json) -> Json:
    return {**spec, "Labels": {**spec["Labels"], "bench.number": value}}


def _nowhere(spec: Json) -> Json:
    return {**spec, "TaskTemplate": {**spec["TaskTemplate"], "Placement": _NOWHERE}}


def _wait(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
