"""Status and list, beside an empty service, raw HTTP and the docker SDK, with more and more containers.

The containers are created and never started, which makes no difference to a read. Each round makes some calls through
each client, in an order drawn anew; its value is their median. A status asks for bots drawn at random. Raw lists hold
the engine's summary rows; those of the SDK and the service, each container's state.

The floor of a status is an empty service that answers with the same bytes, called by a bare stub. The service is called
by a bare stub, too, which compares the services alone; and by the client that users have, which adds its interceptor.
"""

from __future__ import annotations

import random
from contextlib import ExitStack
from statistics import median

from bench.clients import BARE, ECHO, RAW, SDK, SERVICE, Setting
from bench.figures import ms, ratio
from bench.processes import Child
from bench.report import Part
from bench.run import Run, status_answer

CONTAINERS = (1, 100, 500)
_SMOKE_CONTAINERS = (1, 3)
_ANSWERING = (RAW, SDK, SERVICE)

Series = dict[str, list[float]]


def measure(run: Run) -> Part:
    """Measure at each number of containers."""
    part = Part("reads")
    rounds = run.rounds(40, 12, 2)
    # Statuses and lists of each client in each round.
    calls = run.pick(40, 40, 3), run.pick(4, 4, 1)
    with ExitStack() as stack:
        service = stack.enter_context(run.service())
        (bot_id,) = run.idle_bots(service, 1)
        echo = run.echo(status_answer(service, bot_id))
        settings = {name: Setting(run.docker_host, service.target) for name in (RAW, SDK, SERVICE, BARE)}
        settings[ECHO] = Setting("", echo.target)
        clients = {name: stack.enter_context(run.client(name, setting)) for name, setting in settings.items()}
        numbers = _SMOKE_CONTAINERS if run.is_smoke else CONTAINERS
        for number in numbers:
            bot_ids = run.idle_bots(service, number)
            print(f"reads, {number} containers: {rounds} rounds", flush=True)
            statuses, lists, listed = _rounds(clients, bot_ids, rounds, calls)
            _tell(part, number, statuses, lists, listed)
        # The last of them, with the most containers.
        for name, times in ((RAW, 18), (SDK, 200)):
            part.at_least(f"list of {number}: {name} / {SERVICE}", ratio(lists[name], lists[SERVICE]), times)
    return part


def _rounds(
    clients: dict[str, Child], bot_ids: list[str], rounds: int, calls: tuple[int, int]
) -> tuple[Series, Series, dict[str, int]]:
    statuses: Series = {name: [] for name in clients}
    lists: Series = {name: [] for name in _ANSWERING}
    listed = {}
    draw = random.Random(3)
    for _ in range(rounds + 1):
        asked = draw.choices(bot_ids, k=calls[0])
        for name in draw.sample(list(clients), len(clients)):
            seconds, _ = clients[name].call("each", "status", asked)
            statuses[name].append(median(seconds))
        for name in draw.sample(_ANSWERING, len(_ANSWERING)):
            seconds, listed[name] = clients[name].call("each", "list", [""] * calls[1])
            lists[name].append(median(seconds))
    # The first round warms up.
    return {k: v[1:] for k, v in statuses.items()}, {k: v[1:] for k, v in lists.items()}, listed


def _tell(part: Part, number: int, statuses: Series, lists: Series, listed: dict[str, int]) -> None:
    rows = []
    for name, seconds in statuses.items():
        row = [name, ms(median(seconds)), str(ratio(seconds, statuses[RAW])), str(ratio(seconds, statuses[ECHO]))]
        if name in lists:
            row += [ms(median(lists[name])), str(ratio(lists[name], lists[RAW])), f"{listed[name]:,}"]
        rows.append([*row, "", "", ""][:7])
    head = ["", "status", f"to {RAW} [95 %]", f"to {ECHO} [95 %]", "list", f"to {RAW} [95 %]", "listed"]
    part.table(f"Status and list, containers: {number} (ms, medians of {len(statuses[RAW])} rounds)", head, rows)
    part.samples[str(number)] = {"status": statuses, "list": lists}
    for name in (BARE, SERVICE):
        part.at_most(f"status p50, {number}: {name} / {ECHO}", ratio(statuses[name], statuses[ECHO]), 1.15)
