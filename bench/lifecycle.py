"""What a whole lifecycle costs: create, start, stop with no grace, remove.

Each round runs one batch of lifecycles through each candidate, in an order drawn anew for each round, so that drift of
the machine, and what an engine still tidies up after the batch before, falls on all alike. A batch has as many
lifecycles as run at a time (at 8: twice as many), each on a bot of its own, on the default bridge network.

Reported: the median time of each verb over all lifecycles; the median over the rounds of a batch's wall time per
lifecycle; and the median of the rounds' ratios of that wall time to raw HTTP's. Nearly all of it is the engine's own
work, which takes its time; where the interval of a ratio is too wide to tell, more ``--rounds`` make it narrower.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import median

from bench.belongings import Belongings
from bench.candidates import RAW, SERVICE
from bench.figures import milliseconds, ratio
from bench.report import Aim, Part, Table
from bench.worker import VERBS, Batch, Worker

AIM_RATIO = 1.05
AT_ONCE = (1, 8, 32)
QUICK_AT_ONCE = (1, 8)
_ROUNDS = {1: 12}
_ROUNDS_AT_ONCE = 3
_QUICK_ROUNDS = {1: 3}
_QUICK_ROUNDS_AT_ONCE = 1
_BATCH = {8: 16}
_SEED = 2


def measure(
    workers: Sequence[Worker],
    belongings: Belongings,
    *,
    at_a_time: Sequence[int],
    rounds: int | None,
    quick: bool,
) -> Part:
    """Measure with so many lifecycles ``at_a_time``, one number after another."""
    part = Part("lifecycle", __doc__ or "")
    for worker in workers:
        # Threads and connections are made on demand, here and in the service.
        worker.lifecycles(belongings.new_bot_ids(max(at_a_time)), max(at_a_time))
    for at_once in at_a_time:
        count = rounds or (_QUICK_ROUNDS if quick else _ROUNDS).get(
            at_once, _QUICK_ROUNDS_AT_ONCE if quick else _ROUNDS_AT_ONCE
        )
        size = _BATCH.get(at_once, at_once)
        print(f"lifecycle, {at_once} at a time: {count} rounds of {size}, by {len(workers)} candidates", flush=True)
        _tell(part, _batches(workers, belongings, at_once, size, count), at_once, size)
    return part


def _batches(
    workers: Sequence[Worker], belongings: Belongings, at_once: int, size: int, rounds: int
) -> dict[str, list[Batch]]:
    batches: dict[str, list[Batch]] = {worker.name: [] for worker in workers}
    draw = random.Random(_SEED)
    for _ in range(rounds):
        for worker in draw.sample(workers, len(workers)):
            batches[worker.name].append(worker.lifecycles(belongings.new_bot_ids(size), at_once))
    return batches


def _tell(part: Part, batches: dict[str, list[Batch]], at_once: int, size: int) -> None:
    walls = {name: [batch.wall / size for batch in of_name] for name, of_name in batches.items()}
    rows = []
    for name, of_name in batches.items():
        verbs = [[times[index] for batch in of_name for times in batch.verbs] for index in range(len(VERBS))]
        rows.append(
            [
                name,
                *(milliseconds(seconds) for seconds in verbs),
                milliseconds(walls[name]),
                f"{1 / median(walls[name]):.2f}",
                str(ratio(walls[name], walls[RAW])),
            ]
        )
    head = ["", *VERBS, "wall per lifecycle", "per second", f"to {RAW} [95 %]"]
    part.tables.append(Table(f"Lifecycle, {at_once} at a time (ms, medians of {len(walls[RAW])} rounds)", head, rows))
    against_raw = ratio(walls[SERVICE], walls[RAW])
    part.aims.append(
        Aim(
            f"lifecycle, {at_once} at a time: service / {RAW}",
            str(against_raw),
            f"at most {AIM_RATIO}",
            met=round(against_raw.median, 2) <= AIM_RATIO,
        )
    )
    part.samples[f"{at_once} at a time"] = {
        name: [{"wall_seconds": batch.wall, "verb_seconds": batch.verbs} for batch in of_name]
        for name, of_name in batches.items()
    }
