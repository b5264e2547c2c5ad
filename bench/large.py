"""What becomes of the service with thousands of containers, on an engine that only pretends to have them.

The engine (``bench.large_engine``) answers at once, so that what is measured is the service's own. For each number of
containers a fresh service is started, more than once:

* until ``synced``, as in the part ``sync``;
* its memory (RSS, proc(5)) a second later. Per container: by how much it is more than with ten, divided by how many
  containers more those are. What inspecting many at once leaves behind in the process counts as theirs, and RSS moves
  by whole MiB, which is 1 kB for each of 1,000. Beside it, what is really held (``bench.held_memory``);
* status: the last services of each number are asked in turn, in rounds, for bots drawn at random; a number's ratio is
  that of its rounds' medians to those with ten;
* list, of the largest number: decoded by the generated stub. Repeated lists are answered with bytes that are kept until
  the next change, so there are also lists after a change each. The floor: an empty ``grpc.aio`` service that answers
  with as many bytes, decoded too.
"""

from __future__ import annotations

import random
from contextlib import ExitStack, closing
from statistics import median
from typing import NamedTuple

from bench.belongings import Belongings
from bench.candidates import ECHO, LIST_METHOD, SERVICE, bare_channel
from bench.chart import Bars
from bench.echo_service import EchoProcess
from bench.engine_http import RawEngine
from bench.figures import in_milliseconds, milliseconds, percentile, ratio
from bench.held_memory import bytes_each
from bench.large_engine import LargeEngineProcess, bot_ids
from bench.report import Aim, Part, Table
from bench.synced import AIM_CONTAINERS, AIM_SECONDS, Synced, synced_service
from bench.worker import Worker
from container_manager.model import container_name

COUNTS = (10, 100, 1000, 5000)
AIM_LIST_SECONDS = 0.04
AIM_LIST_BYTES = 4_000_000
AIM_FLAT = 1.1
AIM_BYTES_EACH = 5_000
_STARTS = 4
_QUICK_STARTS = 2
_ROUNDS = 25
_QUICK_ROUNDS = 10
_STATUSES_PER_ROUND = 40
_LISTS_PER_ROUND = 4
_SEED = 5


class _Starts(NamedTuple):
    """Of the services started with one number of containers."""

    seconds: list[float]
    rss: list[int]


def measure(belongings: Belongings, *, rounds: int | None, quick: bool) -> Part:
    """Measure with each number of containers."""
    part = Part("large", __doc__ or "")
    starts = rounds or (_QUICK_STARTS if quick else _STARTS)
    count = rounds or (_QUICK_ROUNDS if quick else _ROUNDS)
    print(f"large, {', '.join(f'{number:,}' for number in COUNTS)} containers: {starts} starts each", flush=True)
    started = {number: _Starts([], []) for number in COUNTS}
    with ExitStack() as stack:
        engines = {number: stack.enter_context(LargeEngineProcess(belongings, number)) for number in COUNTS}
        services: dict[int, Synced] = {}
        for turn in range(starts):
            for number, engine in engines.items():
                service = synced_service(belongings, engine.target, f"large-{number}-{turn}", bot_ids(1)[0])
                with ExitStack() as until_next:
                    synced = until_next.enter_context(service)
                    started[number].seconds.append(synced.seconds)
                    started[number].rss.append(synced.memory.rss)
                    if turn == starts - 1:
                        stack.push(until_next.pop_all())
                        services[number] = synced
        _tell_starts(part, started)
        print(f"large, statuses and lists: {count} rounds", flush=True)
        _statuses(part, belongings, services, count)
        _lists(part, belongings, services[COUNTS[-1]], engines[COUNTS[-1]], count)
    return part


def _statuses(part: Part, belongings: Belongings, services: dict[int, Synced], rounds: int) -> None:
    seconds: dict[int, list[float]] = {number: [] for number in services}
    draw = random.Random(_SEED)
    with ExitStack() as stack:
        workers = {
            number: stack.enter_context(Worker(SERVICE, belongings.setting(synced.service.target)))
            for number, synced in services.items()
        }
        for turn in range(rounds + 1):
            for number in draw.sample(COUNTS, len(COUNTS)):
                asked = draw.choices(bot_ids(number), k=_STATUSES_PER_ROUND)
                measured = median(workers[number].statuses(asked))
                if turn:
                    seconds[number].append(measured)
    fewest, most = seconds[COUNTS[0]], seconds[COUNTS[-1]]
    rows = [[f"{number:,}", milliseconds(s), str(ratio(s, fewest))] for number, s in seconds.items()]
    head = ["containers", "status", f"to {COUNTS[0]} [95 %]"]
    part.tables.append(Table(f"Status by number of containers (ms, medians of {rounds} rounds)", head, rows))
    flat = ratio(most, fewest)
    part.aims.append(
        Aim(
            f"status flat: {COUNTS[-1]:,} / {COUNTS[0]} containers",
            str(flat),
            f"at most {AIM_FLAT}",
            met=round(flat.median, 2) <= AIM_FLAT,
        )
    )
    values = {f"{number:,} containers": median(s) * 1000 for number, s in seconds.items()}
    part.bars.append(
        Bars("Status by number of containers, p50", "ms", values, base=next(iter(values)), ours=tuple(values))
    )
    part.samples["status_seconds"] = {str(number): s for number, s in seconds.items()}


def _lists(part: Part, belongings: Belongings, synced: Synced, engine: LargeEngineProcess, rounds: int) -> None:
    number, service = COUNTS[-1], synced.service
    with bare_channel(service.target) as channel:
        answer: bytes = channel.unary_unary(LIST_METHOD)(b"")
    series: dict[str, list[float]] = {"service": [], "service, after a change": [], ECHO: []}
    with ExitStack() as stack:
        echo = stack.enter_context(EchoProcess(belongings, "echo-list", answer))
        client = stack.enter_context(Worker(SERVICE, belongings.setting(service.target)))
        floor = stack.enter_context(Worker(ECHO, belongings.setting(echo.target)))
        raw = stack.enter_context(closing(RawEngine(engine.target)))
        changed = container_name(bot_ids(number)[-1])
        for turn in range(rounds + 1):
            repeated, listed = client.lists(_LISTS_PER_ROUND)
            empty, _ = floor.lists(_LISTS_PER_ROUND)
            (raw.unpause if turn % 2 else raw.pause)(changed)
            # Seen by the service meanwhile: the view is brought up to date within some 15 ms.
            client.statuses(bot_ids(number)[:200])
            after, _ = client.lists(1)
            if turn:
                for name, seconds in zip(series, (repeated, after, empty), strict=True):
                    series[name] += seconds
    rows = [
        [name, milliseconds(s), in_milliseconds(percentile(s, 99)), f"{len(answer) / 1e6:.2f}"]
        for name, s in series.items()
    ]
    part.tables.append(Table(f"List of {listed:,} containers (ms, decoded)", ["", "p50", "p99", "MB"], rows))
    for name in ("service", "service, after a change"):
        part.aims.append(
            Aim(
                f"list of {listed:,}, p50: {name}",
                f"{milliseconds(series[name])} ms",
                f"below {AIM_LIST_SECONDS * 1000:.0f} ms",
                met=listed == number and median(series[name]) < AIM_LIST_SECONDS,
            )
        )
    part.aims.append(
        Aim(
            f"list of {listed:,}: size",
            f"{len(answer) / 1e6:.2f} MB",
            f"below {AIM_LIST_BYTES / 1e6:.0f} MB",
            met=listed == number and len(answer) < AIM_LIST_BYTES,
        )
    )
    values = {name: median(s) * 1000 for name, s in series.items()}
    part.bars.append(Bars(f"List of {listed:,}, p50", "ms", values, base=ECHO, ours=tuple(series)[:2]))
    part.samples["list_seconds"] = series


def _tell_starts(part: Part, started: dict[int, _Starts]) -> None:
    few = COUNTS[0]
    each = {number: _bytes_each(started, few, number) for number in COUNTS[1:]}
    rows = [
        [
            f"{number:,}",
            f"{median(of.seconds):.2f}",
            f"{median(of.rss) / 1e6:.1f}",
            f"{each[number]:,.0f}" if number in each else "",
            f"{bytes_each(number):,.0f}",
        ]
        for number, of in started.items()
    ]
    head = ["containers", "synced (s)", "RSS (MB)", f"B per container above {few}", "of it held"]
    part.tables.append(Table(f"A fresh service (medians of {len(started[few].rss)} starts)", head, rows))
    seconds = median(started[AIM_CONTAINERS].seconds)
    part.aims.append(
        Aim(
            f"{AIM_CONTAINERS:,} containers synced after start, large engine",
            f"{seconds:.2f} s",
            f"at most {AIM_SECONDS:.0f} s",
            met=seconds <= AIM_SECONDS,
        )
    )
    for number in (AIM_CONTAINERS, COUNTS[-1]):
        part.aims.append(
            Aim(
                f"memory per container, {few} to {number:,}",
                f"{each[number]:,.0f} B",
                f"at most {AIM_BYTES_EACH:,} B",
                met=each[number] <= AIM_BYTES_EACH,
            )
        )
    part.samples["starts"] = {str(number): of._asdict() for number, of in started.items()}


def _bytes_each(started: dict[int, _Starts], few: int, many: int) -> float:
    return (median(started[many].rss) - median(started[few].rss)) / (many - few)
