"""The service on a swarm beside the manager's raw HTTP API: ``python -m bench --swarm``, as root.

Three machines are started on this one (:mod:`dev.swarm`), and the service beside their manager. With 500 bots, each of
which has a service and a task that waits for a node that does not exist:

* status and list, which come from the service's memory, beside an empty service that answers with the same bytes, and
  beside ``/services`` and ``/tasks`` of the manager;
* the service's CPU time for polling and the live view while nothing changes, and while something does.

Without them, the time from a start until the bot runs, beside the same by the raw API.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from functools import partial
from statistics import median

from bench.clients import BARE, ECHO, MANAGER, SERVICE, Json, RawManager, Setting, with_replica
from bench.figures import ms, ratio
from bench.reads import compare
from bench.report import Part
from bench.run import Run, status_answer

OPTIONS = ("--backend", "swarm", "--allow-weaker", "no-new-privileges", "--placement", "floating")
ENGINE_SETTINGS = {"no-new-privileges": True}
_BOTS = 500
_NOWHERE = {"Constraints": ["node.labels.none==1"]}
_ANSWER = "service, its answer"
_CHANGE_SECONDS = 0.5
_SETTLED_SECONDS = 3.0


def starts(run: Run) -> Part:
    """From a start until the bot runs."""
    part, rounds = Part(), run.rounds(40, 8, 1)
    print(f"starts: {rounds} rounds", flush=True)
    # The service also waits whether the program can be executed.
    seconds: dict[str, list[float]] = {SERVICE: [], _ANSWER: [], MANAGER: []}
    draw = random.Random(5)
    with (
        run.service(*OPTIONS) as service,
        closing(RawManager(Setting(run.docker_host, ""))) as manager,
        run.client(SERVICE, Setting("", service.target)) as client,
    ):
        for _ in range(rounds + 1):
            bots = run.make(service, 2, run.request(), start=False, secret=True)
            for name, bot_id in draw.sample([*zip((SERVICE, MANAGER), bots, strict=True)], 2):
                begun = time.perf_counter()
                if name == SERVICE:
                    answer = client.begin("each", "start", [bot_id])
                    manager.await_running(bot_id)
                else:
                    manager.start(bot_id)
                seconds[name].append(time.perf_counter() - begun)
                if name == SERVICE:
                    answer.result()
                    seconds[_ANSWER].append(time.perf_counter() - begun)
            for bot_id in bots:
                manager.remove(bot_id)
    # The first round warms up.
    seconds = {name: times[1:] for name, times in seconds.items()}
    rows = [[name, ms(median(times)), str(ratio(times, seconds[MANAGER]))] for name, times in seconds.items()]
    head = ["", "start", f"to {MANAGER} [95 %]"]
    part.table(f"From a start until the bot runs (ms, medians of {rounds})", head, rows)
    part.at_most(f"start until it runs: {SERVICE} / {MANAGER}", ratio(seconds[SERVICE], seconds[MANAGER]), 1.3)
    return part


def reads(run: Run) -> Part:
    """Status and list of many bots, which stay for :func:`polling`."""
    part, bots, rounds = Part(), run.pick(_BOTS, _BOTS, 5), run.rounds(40, 12, 1)
    print(f"reads: {bots} bots, {rounds} rounds", flush=True)
    with ExitStack() as stack:
        service = stack.enter_context(run.service(*OPTIONS))
        manager = stack.enter_context(closing(RawManager(Setting(run.docker_host, ""))))
        bot_ids = run.make(service, bots, run.request(), start=False, secret=True)
        for bot_id in bot_ids:
            manager.update(bot_id, _waiting)
        while len(manager.tasks()) < bots:
            time.sleep(0.1)
        # The view has what was changed by hand when it has the last of it.
        time.sleep(2)
        echo = run.echo(status_answer(service, bot_ids[0]))
        settings = {name: Setting("", service.target) for name in (SERVICE, BARE)}
        settings |= {ECHO: Setting("", echo.target), MANAGER: Setting(run.docker_host, "")}
        clients = {name: stack.enter_context(run.client(name, setting)) for name, setting in settings.items()}
        statuses, lists = compare(part, clients, bot_ids, rounds, (40, 4), lists_of=(MANAGER, SERVICE))
    part.at_most(f"status p50: {BARE} / {ECHO}", ratio(statuses[BARE], statuses[ECHO]), 1.2)
    part.at_least(f"list of {bots}: {MANAGER} / {SERVICE}", ratio(lists[MANAGER], lists[SERVICE]), 15)
    return part


def polling(run: Run) -> Part:
    """The cost of polling, with the bots of the reads. The service is asked nothing meanwhile."""
    part, seconds = Part(), run.pick(30, 10, 1)
    rows = []
    with (
        run.service(*OPTIONS) as service,
        closing(RawManager(Setting(run.docker_host, ""))) as manager,
        run.client(SERVICE, Setting("", service.target)) as client,
    ):
        services = manager.services()
        bot_id = services[0]["Spec"]["Labels"]["botmaker.bot-id"]
        client.call("each", "synced", [bot_id])
        for changes in (False, True):
            what = f"a change every {_CHANGE_SECONDS} s" if changes else "nothing changes"
            print(f"polling, {what}: {seconds} s", flush=True)
            with _changing(run.docker_host, bot_id) if changes else nullcontext():
                time.sleep(_SETTLED_SECONDS)
                before = service.cpu_seconds()
                time.sleep(seconds)
                share = 100 * (service.cpu_seconds() - before) / seconds
            rows.append([what, f"{share:.2f} %"])
            part.at_most(f"polling, {what}: share of a core", share, 5.0, " %")
    part.table(f"Polling and live view, {len(services)} bots that wait for a node", ["", "of a core"], rows)
    return part


PARTS = {part.__name__: part for part in (starts, reads, polling)}


@contextmanager
def _changing(docker_host: str, bot_id: str) -> Iterator[None]:
    """Change a service again and again."""
    ended = threading.Event()

    def change() -> None:
        with closing(RawManager(Setting(docker_host, ""))) as manager:
            number = 0
            while not ended.wait(_CHANGE_SECONDS):
                number += 1
                manager.update(bot_id, partial(_labelled, str(number)))

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _labelled(value: str, spec: Json) -> Json:
    return {**spec, "Labels": {**spec["Labels"], "bench.number": value}}


def _waiting(spec: Json) -> Json:
    return with_replica({**spec, "TaskTemplate": {**spec["TaskTemplate"], "Placement": _NOWHERE}})
