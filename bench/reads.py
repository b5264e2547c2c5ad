"""Status and list, beside an empty service, raw HTTP and the docker SDK, with more and more containers.

The containers are created and never started, which makes no difference to a read. Each round makes some calls through
each client, in an order drawn anew; its value is their median. A status asks for bots drawn at random. Raw lists hold
the engine's summary rows; those of the SDK and the service, each container's state.

The floor of a status is an empty service that answers with the same bytes, called by a bare stub. The service is called
by a bare stub, too, which compares the services alone; and by the client that users have, which adds its interceptor.
Another service on the same engine has metrics, traces and the log as JSON.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median

from bench.clients import BARE, ECHO, RAW, SDK, SERVICE, TELEMETRY, Setting
from bench.figures import ms, ratio
from bench.processes import Child
from bench.report import Part
from bench.run import TELEMETRY_OPTIONS, Run, status_answer

CONTAINERS = (1, 100, 500)
_SMOKE_CONTAINERS = (1, 3)

Series = dict[str, list[float]]


def measure(run: Run) -> Part:
    """Measure at each number of containers."""
    part = Part()
    rounds = run.rounds(40, 12, 2)
    # Statuses and lists of each client in each round.
    calls = run.pick(40, 40, 3), run.pick(4, 4, 1)
    with ExitStack() as stack:
        service = stack.enter_context(run.service())
        observed = stack.enter_context(run.service(*TELEMETRY_OPTIONS))
        (bot_id,) = run.idle_bots(service, 1)
        echo = run.echo(status_answer(service, bot_id))
        settings = {name: Setting(run.docker_host, service.target) for name in (RAW, SDK, SERVICE, BARE)}
        settings |= {ECHO: Setting("", echo.target), TELEMETRY: Setting("", observed.target)}
        clients = {name: stack.enter_context(run.client(name, setting)) for name, setting in settings.items()}
        numbers = _SMOKE_CONTAINERS if run.is_smoke else CONTAINERS
        for number in numbers:
            bot_ids = run.idle_bots(service, number)
            print(f"reads, {number} containers: {rounds} rounds", flush=True)
            statuses, lists = compare(part, clients, bot_ids, rounds, calls)
            for name in (BARE, SERVICE):
                part.at_most(f"status p50, {number}: {name} / {ECHO}", ratio(statuses[name], statuses[ECHO]), 1.15)
            cost = ratio(statuses[TELEMETRY], statuses[BARE])
            part.at_most(f"status p50, {number}: {TELEMETRY} / {BARE}", cost, 1.1)
        # The last of them, with the most containers.
        for name, times in ((RAW, 18), (SDK, 200)):
            part.at_least(f"list of {number}: {name} / {SERVICE}", ratio(lists[name], lists[SERVICE]), times)
    return part


def compare(
    part: Part,
    clients: dict[str, Child],
    bot_ids: list[str],
    rounds: int,
    calls: tuple[int, int],
    *,
    lists_of: Sequence[str] = (RAW, SDK, SERVICE),
) -> tuple[Series, Series]:
    """Let clients take turns: each round's medians, in seconds, of statuses and lists; and their table.

    ``calls``: statuses and lists of each client in each round; ``lists_of``: the clients that list, first the raw one.
    """
    statuses: Series = {name: [] for name in clients}
    lists: Series = {name: [] for name in lists_of}
    listed = {}
    draw = random.Random(3)
    for _ in range(rounds + 1):
        asked = draw.choices(bot_ids, k=calls[0])
        for name in draw.sample(list(clients), len(clients)):
            seconds, _ = clients[name].call("each", "status", asked)
            statuses[name].append(median(seconds))
        for name in draw.sample(lists_of, len(lists_of)):
            seconds, listed[name] = clients[name].call("each", "list", [""] * calls[1])
            lists[name].append(median(seconds))
    # The first round warms up.
    statuses, lists = ({name: times[1:] for name, times in series.items()} for series in (statuses, lists))
    raw, number, rows = lists_of[0], len(bot_ids), []
    for name, times in statuses.items():
        row = [name, ms(median(times)), str(ratio(times, statuses[raw])), str(ratio(times, statuses[ECHO]))]
        if name in lists:
            row += [ms(median(lists[name])), str(ratio(lists[name], lists[raw])), f"{listed[name]:,}"]
        rows.append([*row, "", "", ""][:7])
    head = ["", "status", f"to {raw} [95 %]", f"to {ECHO} [95 %]", "list", f"to {raw} [95 %]", "listed"]
    part.table(f"Status and list, containers: {number} (ms, medians of {rounds} rounds)", head, rows)
    return statuses, lists
