"""What a status and a list cost with so many containers on the engine.

The containers are created and never started, on no network, which is cheap and makes no difference to a read. Each
round does a few calls through each candidate, one after another, in an order drawn anew for each round; its value is
the median of those calls. A status asks for bots drawn at random.

The answers differ in what they hold: a list of raw HTTP and of the SDK's low level are the engine's summary rows; the
SDK's high level and the service answer with every container's full state.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import median

from bench.belongings import Belongings
from bench.candidates import RAW
from bench.engine_http import RawEngine
from bench.figures import milliseconds, ratio
from bench.report import Part, Table
from bench.worker import Worker
from container_manager.engine.spec import container_name

CONTAINERS = (1, 100, 500)
QUICK_CONTAINERS = (1, 20)
_ROUNDS = 20
_QUICK_ROUNDS = 5
_STATUSES_PER_ROUND = 15
_LISTED_PER_ROUND = 300
_MOST_LISTS_PER_ROUND = 10
_SEED = 3

Series = dict[str, list[float]]


def measure(
    workers: Sequence[Worker],
    belongings: Belongings,
    docker_host: str,
    *,
    containers: Sequence[int],
    rounds: int | None,
    quick: bool,
) -> Part:
    """Measure at each number of ``containers``; those made for a smaller one count for the next."""
    part = Part("reads", __doc__ or "")
    bot_ids: list[str] = []
    setting = belongings.setting("", network="none")
    engine = RawEngine(docker_host)
    try:
        for number in sorted(set(containers)):
            count = rounds or (_QUICK_ROUNDS if quick else _ROUNDS)
            print(f"reads, {number} containers: {count} rounds", flush=True)
            for bot_id in belongings.new_bot_ids(number - len(bot_ids)):
                engine.create(container_name(bot_id), setting.body(bot_id))
                bot_ids.append(bot_id)
            statuses, lists, listed = _rounds(workers, bot_ids, count)
            _tell(part, statuses, lists, number)
            if set(listed.values()) != {number}:
                part.notes.append(f"at {number} containers, lists held {listed}: others use this engine, too")
    finally:
        engine.close()
    return part


def _rounds(workers: Sequence[Worker], bot_ids: list[str], rounds: int) -> tuple[Series, Series, dict[str, int]]:
    statuses: Series = {worker.name: [] for worker in workers}
    lists: Series = {worker.name: [] for worker in workers}
    listed: dict[str, int] = {}
    draw = random.Random(_SEED)
    lists_per_round = max(1, min(_MOST_LISTS_PER_ROUND, _LISTED_PER_ROUND // len(bot_ids)))
    for worker in workers:
        worker.statuses(bot_ids[:1])
        worker.lists(1)
    for _ in range(rounds):
        asked = draw.choices(bot_ids, k=_STATUSES_PER_ROUND)
        for worker in draw.sample(workers, len(workers)):
            statuses[worker.name].append(median(worker.statuses(asked)))
        for worker in draw.sample(workers, len(workers)):
            seconds, listed[worker.name] = worker.lists(lists_per_round)
            lists[worker.name].append(median(seconds))
    return statuses, lists, listed


def _tell(part: Part, statuses: Series, lists: Series, number: int) -> None:
    head = ["", "status", f"to {RAW} [95 %]", "list", f"to {RAW} [95 %]"]
    rows = [
        [
            name,
            milliseconds(statuses[name]),
            str(ratio(statuses[name], statuses[RAW])),
            milliseconds(lists[name]),
            str(ratio(lists[name], lists[RAW])),
        ]
        for name in statuses
    ]
    containers = "1 container" if number == 1 else f"{number} containers"
    part.tables.append(Table(f"Status and list, {containers} (ms, medians of {len(statuses[RAW])} rounds)", head, rows))
    part.samples[str(number)] = {"status_seconds": statuses, "list_seconds": lists}
