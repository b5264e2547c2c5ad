"""What the service itself takes: memory while idle, and time until it serves.

Start: a fresh process each time, from just before it is made until its "serving" line is read, and until a client that
connects then has the answer to its first status call. The modules' byte code is there, as after any first start.

Memory (RSS and PSS of proc(5)): of the last one started, idle for two seconds after that first call, and again after
some load: lifecycles and statuses 8 at a time, and lists of an empty engine.

CPU: what the service's process used under each kind of that load (proc(5), stat, in ticks of a hundredth of a second),
by the number of operations; it depends far less on what else the machine does than any time on the clock.
"""

from __future__ import annotations

import itertools
import time
from statistics import median

from bench.belongings import Belongings
from bench.candidates import SERVICE
from bench.process_figures import Memory
from bench.report import Aim, Part, Table
from bench.service_process import ServiceProcess
from bench.worker import Worker

AIM_BYTES = 80_000_000
AIM_SECONDS = 1.0
_STARTS = 9
_QUICK_STARTS = 3
_IDLE_SECONDS = 2
_LIFECYCLES = 32
_STATUSES = 2_000
_LISTS = 200
_AT_ONCE = 8


def measure(belongings: Belongings, docker_host: str, *, rounds: int | None, quick: bool) -> Part:
    """Start the service several times, and load the last one."""
    part = Part("footprint", __doc__ or "")
    starts = rounds or (_QUICK_STARTS if quick else _STARTS)
    print(f"footprint: {starts} starts, then some load", flush=True)
    (stranger,) = belongings.new_bot_ids(1)
    serving, answered = [], []
    with Worker(SERVICE, belongings.setting("unix:///nowhere")) as client:
        with ServiceProcess(belongings, docker_host, "warm-up") as service:
            client.first_call(service.target, stranger)
        for number in range(1, starts + 1):
            with ServiceProcess(belongings, docker_host, f"start-{number}") as service:
                answered.append(client.first_call(service.target, stranger) - service.begun)
                serving.append(service.serving - service.begun)
                if number == starts:
                    idle, loaded, cpu = _load(service, belongings, quick=quick)
    _tell_start(part, serving, answered)
    _tell_memory(part, idle, loaded)
    part.tables.append(
        Table("CPU of the service (ms per operation)", ["", "CPU"], [[k, f"{v * 1000:.2f}"] for k, v in cpu.items()])
    )
    part.samples["cpu_seconds"] = cpu
    return part


def _load(service: ServiceProcess, belongings: Belongings, *, quick: bool) -> tuple[Memory, Memory, dict[str, float]]:
    """Memory before and after, and CPU seconds of each operation."""
    time.sleep(_IDLE_SECONDS)
    idle = service.memory()
    share = 4 if quick else 1
    lifecycles, statuses, lists = _LIFECYCLES // share, _STATUSES // share, _LISTS // share
    with Worker(SERVICE, belongings.setting(service.target)) as client:
        # Once each before it counts: the service's threads and connections are made on demand.
        client.lifecycles(belongings.new_bot_ids(_AT_ONCE), _AT_ONCE)
        client.lists(1)
        used = [service.cpu_seconds()]
        client.lifecycles(belongings.new_bot_ids(lifecycles), _AT_ONCE)
        used.append(service.cpu_seconds())
        client.statuses(belongings.new_bot_ids(1) * statuses, _AT_ONCE)
        used.append(service.cpu_seconds())
        client.lists(lists)
        used.append(service.cpu_seconds())
    counts = {"lifecycle": lifecycles, "status": statuses, "list": lists}
    cpu = {
        what: (end - begin) / count
        for (what, count), (begin, end) in zip(counts.items(), itertools.pairwise(used), strict=True)
    }
    time.sleep(_IDLE_SECONDS)
    return idle, service.memory(), cpu


def _tell_start(part: Part, serving: list[float], answered: list[float]) -> None:
    rows = [
        [what, f"{median(seconds):.2f}", f"{min(seconds):.2f}", f"{max(seconds):.2f}"]
        for what, seconds in (("serving line", serving), ("first answer", answered))
    ]
    part.tables.append(Table(f"Start (s, {len(serving)} starts)", ["until", "median", "min", "max"], rows))
    for row, seconds in zip(rows, (serving, answered), strict=True):
        part.aims.append(
            Aim(f"start until {row[0]}", f"{row[1]} s", f"below {AIM_SECONDS:.0f} s", met=median(seconds) < AIM_SECONDS)
        )
    part.samples["start"] = {"serving_seconds": serving, "answered_seconds": answered}


def _tell_memory(part: Part, idle: Memory, loaded: Memory) -> None:
    measured = {"after start": idle, "after load": loaded}
    rows = [[when, f"{memory.rss / 1e6:.1f}", f"{memory.pss / 1e6:.1f}"] for when, memory in measured.items()]
    part.tables.append(Table("Memory of the idle service (MB)", ["", "RSS", "PSS"], rows))
    for when, memory in measured.items():
        part.aims.append(
            Aim(
                f"memory, idle {when}: RSS",
                f"{memory.rss / 1e6:.1f} MB",
                f"below {AIM_BYTES / 1e6:.0f} MB",
                met=memory.rss < AIM_BYTES,
            )
        )
    part.samples["memory"] = {when: memory._asdict() for when, memory in measured.items()}
