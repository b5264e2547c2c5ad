"""What a status and a list cost with so many containers on the engine.

The containers are created and never started, on no network, which is cheap and makes no difference to a read. Each
round does a few calls through each candidate, one after another, in an order drawn anew for each round; its value is
the median of those calls. A status asks for bots drawn at random.

The answers differ in what they hold: a list of raw HTTP and of the SDK's low level are the engine's summary rows; the
SDK's high level and the service answer with every container's full state.

The floor of a status is a call of an empty ``grpc.aio`` service that answers with the bytes of a status, through a stub
without an interceptor; the service called through such a stub shows what the interceptor of our client takes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import ExitStack, closing
from statistics import median

from bench.belongings import Belongings
from bench.candidates import BARE, ECHO, RAW, SDK_HIGH, SERVICE
from bench.chart import Bars
from bench.echo_service import EchoProcess
from bench.engine_http import RawEngine
from bench.figures import Ratio, milliseconds, ratio
from bench.report import Aim, Part, Table
from bench.worker import Worker
from container_manager.backends.docker.status import status_from_inspect
from container_manager.model import container_name
from container_manager.rpc.wire import encoded_status

AIM_TO_ECHO = 1.25
AIMED_LIST = 500
AIM_LIST_TO_RAW = 15
AIM_LIST_TO_SDK = 200

CONTAINERS = (1, 100, 500)
QUICK_CONTAINERS = (1, 100)
_ROUNDS = 20
_QUICK_ROUNDS = 5
_STATUSES_PER_ROUND = 40
_LISTED_PER_ROUND = 300
_MOST_LISTS_PER_ROUND = 10
_SEED = 3

Series = dict[str, list[float]]


def measure(
    workers: Sequence[Worker],
    belongings: Belongings,
    docker_host: str,
    target: str,
    *,
    containers: Sequence[int],
    rounds: int | None,
    quick: bool,
) -> Part:
    """Measure at each number of ``containers``; those made for a smaller one count for the next.

    ``target`` is the service's address, for one more worker.
    """
    part = Part("reads", __doc__ or "")
    with ExitStack() as stack:
        (bot_id,) = belongings.idle_containers(1)
        echo = stack.enter_context(EchoProcess(belongings, "echo", _answer(docker_host, bot_id)))
        more = [
            stack.enter_context(Worker(name, belongings.setting(where)))
            for name, where in ((BARE, target), (ECHO, echo.target))
        ]
        for number in sorted(set(containers)):
            count = rounds or (_QUICK_ROUNDS if quick else _ROUNDS)
            print(f"reads, {number} containers: {count} rounds", flush=True)
            statuses, lists, listed = _rounds(workers, more, belongings.idle_containers(number), count)
            _tell(part, statuses, lists, number)
            _aim(part, statuses, lists, number, last=number == max(containers))
            if set(listed.values()) != {number}:
                part.notes.append(f"at {number} containers, lists held {listed}: others use this engine, too")
    return part


def _answer(docker_host: str, bot_id: str) -> bytes:
    """The service's answer to a status of this bot, byte by byte."""
    with closing(RawEngine(docker_host)) as engine:
        return encoded_status(status_from_inspect(engine.inspect(container_name(bot_id))))


def _rounds(
    workers: Sequence[Worker], more: Sequence[Worker], bot_ids: list[str], rounds: int
) -> tuple[Series, Series, dict[str, int]]:
    asking = [*workers, *more]
    statuses: Series = {worker.name: [] for worker in asking}
    lists: Series = {worker.name: [] for worker in workers}
    listed: dict[str, int] = {}
    draw = random.Random(_SEED)
    lists_per_round = max(1, min(_MOST_LISTS_PER_ROUND, _LISTED_PER_ROUND // len(bot_ids)))
    for worker in asking:
        worker.statuses(bot_ids[:1])
    for worker in workers:
        worker.lists(1)
    for _ in range(rounds):
        asked = draw.choices(bot_ids, k=_STATUSES_PER_ROUND)
        for worker in draw.sample(asking, len(asking)):
            statuses[worker.name].append(median(worker.statuses(asked)))
        for worker in draw.sample(workers, len(workers)):
            seconds, listed[worker.name] = worker.lists(lists_per_round)
            lists[worker.name].append(median(seconds))
    return statuses, lists, listed


def _tell(part: Part, statuses: Series, lists: Series, number: int) -> None:
    head = ["", "status", f"to {RAW} [95 %]", f"to {ECHO} [95 %]", "list", f"to {RAW} [95 %]"]
    rows = [
        [
            name,
            milliseconds(statuses[name]),
            str(ratio(statuses[name], statuses[RAW])),
            str(ratio(statuses[name], statuses[ECHO])),
            *([milliseconds(lists[name]), str(ratio(lists[name], lists[RAW]))] if name in lists else ["", ""]),
        ]
        for name in statuses
    ]
    containers = _containers(number)
    part.tables.append(Table(f"Status and list, {containers} (ms, medians of {len(statuses[RAW])} rounds)", head, rows))
    part.samples[str(number)] = {"status_seconds": statuses, "list_seconds": lists}
    for what, series, base in (("Status", statuses, ECHO), ("List", lists, RAW)):
        values = {name: median(seconds) * 1000 for name, seconds in series.items()}
        part.bars.append(Bars(f"{what}, {containers}, p50", "ms", values, base=base, ours=(SERVICE, BARE)))


def _aim(part: Part, statuses: Series, lists: Series, number: int, *, last: bool) -> None:
    if last:
        to_echo = ratio(statuses[SERVICE], statuses[ECHO])
        what = f"status p50, {_containers(number)}: service / {ECHO}"
        part.aims.append(Aim(what, str(to_echo), f"at most {AIM_TO_ECHO}", met=round(to_echo.median, 2) <= AIM_TO_ECHO))
    if number != AIMED_LIST:
        return
    for name, times in ((RAW, AIM_LIST_TO_RAW), (SDK_HIGH, AIM_LIST_TO_SDK)):
        faster: Ratio = ratio(lists[name], lists[SERVICE])
        what = f"list of {number}: {name} / service"
        part.aims.append(Aim(what, str(faster), f"at least {times}", met=faster.median >= times))


def _containers(number: int) -> str:
    return "1 container" if number == 1 else f"{number:,} containers"
