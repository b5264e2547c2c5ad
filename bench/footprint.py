"""What a fresh service takes: time until it knows all containers, memory, and a list of all of them.

Sync: from just before its process is made until a watcher, who connects when it serves, receives ``synced``. Every
container has been inspected by then, and statuses and lists come from memory.

* On the real engine, with containers that were created and never started. Beside it, raw HTTP reads the same: one list,
  then one inspection after another, with no process to start.
* On scripted engines (:mod:`bench.scripted_engine`), which show what the real engine shows of a running bot. Memory is
  the RSS a second after the sync. Per container: by how much it exceeds that with the fewest, divided by how many more
  they are. What reading many at once leaves behind in the process counts as theirs.
* A list of the largest number, decoded by the stub. The service keeps the answer's bytes until the next change, so
  there are also lists after a change each. The floor: an empty service that answers with the same bytes.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from statistics import median

from bench.clients import BARE, ECHO, LIST_METHOD, RAW, SERVICE, Setting, answer_of
from bench.engine_http import MANAGED, RawEngine, container_name
from bench.figures import ms, p99, ratio
from bench.processes import Program
from bench.report import Part
from bench.run import SMOKE_CONTAINERS, Run
from bench.scripted_engine import ScriptedEngine, bot_ids, templates

COUNTS = (10, 1000, 5000)
_SMOKE_COUNTS = (2, SMOKE_CONTAINERS)
_LISTS = 4


def measure(run: Run) -> Part:
    """Measure on the real engine, then on the scripted ones."""
    part = Part()
    with run.service() as service:
        idle = run.idle_bots(service, run.pick(1000, 200, 3))
        documents = _documents(run, service)
    _real(run, part, idle)
    _scripted(run, part, documents)
    return part


def _real(run: Run, part: Part, idle: list[str]) -> None:
    starts = run.rounds(5, 2, 1)
    print(f"footprint, {len(idle):,} containers: {starts} starts", flush=True)
    seconds: dict[str, list[float]] = {SERVICE: [], "CPU of the service": [], RAW: []}
    with run.client(RAW, Setting(run.docker_host, "")) as raw:
        for _ in range(starts):
            seconds[RAW] += raw.call("each", "inspect_all", [""])[0]
            with run.synced_service(run.docker_host, idle[0]) as (service, taken):
                seconds[SERVICE].append(taken)
                seconds["CPU of the service"].append(service.cpu_seconds())
    rows = [
        [name, f"{median(s):.2f}", f"{min(s):.2f}", f"{max(s):.2f}", str(ratio(s, seconds[RAW]))]
        for name, s in seconds.items()
    ]
    head = ["", "median", "least", "most", f"to {RAW} [95 %]"]
    part.table(f"To know {len(idle):,} containers (s, {starts} starts)", head, rows)
    part.at_most(f"sync of {len(idle):,} containers", median(seconds[SERVICE]), 3, " s")


def _scripted(run: Run, part: Part, documents: str) -> None:
    counts, starts = _SMOKE_COUNTS if run.is_smoke else COUNTS, run.rounds(5, 2, 1)
    few, most = counts[0], counts[-1]
    print(f"footprint, {', '.join(f'{number:,}' for number in counts)} containers: {starts} starts each", flush=True)
    seconds: dict[int, list[float]] = {number: [] for number in counts}
    rss: dict[int, list[float]] = {number: [] for number in counts}
    with ExitStack() as stack:
        engines = {}
        for number in counts:
            if run.is_smoke:
                engines[number] = run.docker_host
            else:
                engines[number] = stack.enter_context(run.server(ScriptedEngine, number, documents)).target
        for turn in range(starts):
            for number, engine in engines.items():
                with run.synced_service(engine, bot_ids(1)[0]) as (service, taken):
                    seconds[number].append(taken)
                    rss[number].append(service.rss_bytes())
                    if turn == starts - 1 and number == most:
                        _list(run, part, service, engine, number)
    each = {number: (median(rss[number]) - median(rss[few])) / (number - few) for number in counts[1:]}
    rows = [
        [f"{n:,}", f"{median(seconds[n]):.2f}", f"{median(rss[n]) / 1e6:.1f}", f"{each[n]:,.0f}" if n in each else ""]
        for n in counts
    ]
    head = ["containers", "synced (s)", "RSS (MB)", f"bytes for each above {few}"]
    part.table(f"A fresh service on a scripted engine (medians of {starts} starts)", head, rows)
    part.at_most(f"start until the first answer, {few} containers", median(seconds[few]), 1, " s")
    part.at_most(f"memory with {few} containers", median(rss[few]) / 1e6, 80, " MB")
    for number, size in each.items():
        part.at_most(f"memory for each of {number:,} containers", size, 5_000, " B")


def _list(run: Run, part: Part, service: Program, engine: str, number: int) -> None:
    rounds = run.rounds(25, 8, 2)
    print(f"footprint, lists of {number:,}: {rounds} rounds", flush=True)
    answer = answer_of(service.target, LIST_METHOD)
    again, changed, echoed = "repeated", "after a change", ECHO
    series: dict[str, list[float]] = {again: [], changed: [], echoed: []}
    with (
        run.client(BARE, Setting("", service.target)) as client,
        run.client(ECHO, Setting("", run.echo(answer).target)) as floor,
        closing(RawEngine(engine)) as raw,
    ):
        bots = bot_ids(number)
        for turn in range(rounds + 1):
            listed, found = client.call("each", "list", [""] * _LISTS)
            empty, _ = floor.call("each", "list", [""] * _LISTS)
            raw.act(container_name(bots[-1]), "unpause" if turn % 2 else "pause")
            # Some 50 ms, in which the service sees the change.
            client.call("each", "status", bots[:1] * run.pick(200, 200, 10))
            after, _ = client.call("each", "list", [""])
            if turn:
                for name, taken in zip(series, (listed, after, empty), strict=True):
                    series[name].append(median(taken))
    rows = [[name, ms(median(s)), ms(p99(s)), str(ratio(s, series[echoed]))] for name, s in series.items()]
    head = ["", "p50", "p99", f"to {ECHO} [95 %]"]
    part.table(f"List of {found:,} containers, {len(answer) / 1e6:.2f} MB (ms, decoded)", head, rows)
    for name in (again, changed):
        part.at_most(f"list of {found:,}, p50, {name}", median(series[name]) * 1000, 40, " ms")
    part.at_most(f"list of {found:,}, size", len(answer) / 1e6, 4, " MB")


def _documents(run: Run, service: Program) -> str:
    """What the run's engine shows of a running bot, which is removed again."""
    request = run.request()
    request.config.environment.update({"TZ": "Europe/Berlin", "NODE_OPTIONS": "--max-old-space-size=512"})
    request.config.extra_hosts["host.docker.internal"] = "host-gateway"
    request.config.ports.add(container_port=18789)
    (bot_id,) = run.make(service, 1, request, start=True)
    name = container_name(bot_id)
    with closing(RawEngine(run.docker_host)) as engine:
        (row,) = [row for row in engine.list(MANAGED) if f"/{name}" in row["Names"]]
        shown = templates(engine.inspect(name), row, bot_id)
        engine.remove(name)
    return shown
