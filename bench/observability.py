"""What it costs a status that everything is told of it.

Three services on the same engine: one with the default options; the same once more, which shows what the machine's
noise makes of no difference at all; and one with metrics, traces and the log as JSON. A collector of its own takes the
spans, and the metrics are scraped once a round, between the calls. Each round does some statuses with each service, in
an order drawn anew, one after another through one bare stub each; its value is the median of those calls.

At the end the third one's metrics must have counted every call. Successful statuses have no spans.
"""

from __future__ import annotations

import random
import re
import socket
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median

from bench.belongings import Belongings
from bench.candidates import BARE
from bench.chart import Bars
from bench.child import ChildError
from bench.figures import milliseconds, percentile, ratio
from bench.otlp_receiver import ReceiverProcess
from bench.report import Aim, Part, Table
from bench.service_process import ServiceProcess
from bench.worker import Worker

AIM_TIMES = 1.1
OFF = "off"
OFF_AGAIN = "off, once more"
ON = "everything on"
_ROUNDS = 300
_QUICK_ROUNDS = 100
_STATUSES_PER_ROUND = 20
_SEED = 11
_COUNT = re.compile(
    r'^container_manager_rpc_duration_seconds_count\{.*method="GetContainerStatus".*\} ([0-9.]+)$', re.MULTILINE
)


def measure(belongings: Belongings, docker_host: str, *, rounds: int | None, quick: bool) -> Part:
    """Measure it with one container."""
    part = Part("observability", __doc__ or "")
    count = rounds or (_QUICK_ROUNDS if quick else _ROUNDS)
    print(f"observability: {count} rounds", flush=True)
    (bot_id,) = belongings.idle_containers(1)
    metrics = f"127.0.0.1:{_free_port()}"
    with ExitStack() as stack:
        collector = stack.enter_context(ReceiverProcess(belongings))
        everything = ("--metrics-listen", metrics, "--otlp-endpoint", collector.endpoint, "--log-format", "json")
        asking = {}
        for number, (name, options) in enumerate({OFF: (), OFF_AGAIN: (), ON: everything}.items()):
            service = stack.enter_context(ServiceProcess(belongings, docker_host, f"observed-{number}", *options))
            asking[name] = stack.enter_context(Worker(BARE, belongings.setting(service.target)))
            asking[name].first_synced(service.target, bot_id)
        series = _rounds(asking, bot_id, count, lambda: _scrape(metrics))
        asked = (count + 1) * _STATUSES_PER_ROUND
        counted = _COUNT.search(_scrape(metrics))
        if counted is None or float(counted[1]) != asked:
            raise ChildError(f"{ON}: of {asked} statuses not all were counted")
    _tell(part, series)
    return part


def _rounds(
    asking: dict[str, Worker], bot_id: str, rounds: int, scrape: Callable[[], object]
) -> dict[str, list[list[float]]]:
    draw = random.Random(_SEED)
    bot_ids = [bot_id] * _STATUSES_PER_ROUND
    series: dict[str, list[list[float]]] = {name: [] for name in asking}
    for worker in asking.values():
        worker.statuses(bot_ids)
    for _ in range(rounds):
        scrape()
        for name in draw.sample(list(asking), len(asking)):
            series[name].append(asking[name].statuses(bot_ids))
    return series


def _tell(part: Part, series: dict[str, list[list[float]]]) -> None:
    p50 = {name: [median(seconds) for seconds in rounds] for name, rounds in series.items()}
    every = {name: [second for seconds in rounds for second in seconds] for name, rounds in series.items()}
    rows = [
        [
            name,
            milliseconds(values),
            str(ratio(values, p50[OFF])),
            f"{percentile(every[name], 99) * 1000:.2f}",
        ]
        for name, values in p50.items()
    ]
    head = ["", "status p50", f"to {OFF} [95 %]", "p99"]
    part.tables.append(Table(f"Status, 1 container (ms, medians of {len(p50[OFF])} rounds)", head, rows))
    cost = ratio(p50[ON], p50[OFF])
    part.aims.append(
        Aim(f"status p50: {ON} / {OFF}", str(cost), f"at most {AIM_TIMES}", met=round(cost.median, 2) <= AIM_TIMES)
    )
    values = {name: median(seconds) * 1000 for name, seconds in p50.items()}
    part.bars.append(Bars("Status, 1 container, p50", "ms", values, base=OFF, ours=(OFF, ON)))
    part.samples["status_seconds"] = series


def _scrape(metrics: str) -> str:
    with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
