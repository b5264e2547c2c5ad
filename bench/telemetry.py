"""What metrics, traces and the log as JSON cost a status.

Two services on the same engine take turns: one with the default options, and one with all three and a collector. Each
is asked as usual and with a sampled trace of the caller's, without which a successful read makes no span. Each round
makes some calls of each kind, in an order drawn anew; its value is their median. The metrics are scraped once a round,
between the calls. At the end they must have counted every call, and the collector must have received spans.
"""

from __future__ import annotations

import random
import re
import urllib.request
from contextlib import ExitStack
from statistics import median

from bench.clients import BARE, Setting
from bench.figures import ms, ratio
from bench.processes import ProcessError
from bench.report import Part
from bench.run import Run
from dev.remains import wait_for

_CALLS = 20
_COUNT = re.compile(
    r'^container_manager_rpc_duration_seconds_count\{.*method="GetContainerStatus".*\} ([0-9.]+)$', re.MULTILINE
)
_OPERATIONS = {"": "status", ", traced by the caller": "traced_status"}


def measure(run: Run) -> Part:
    """Measure with one container."""
    part = Part("telemetry")
    rounds = run.rounds(300, 80, 2)
    print(f"telemetry: {rounds} rounds", flush=True)
    with ExitStack() as stack:
        services = {"off": stack.enter_context(run.service())}
        services["on"] = stack.enter_context(run.service(*(() if run.is_smoke else run.telemetry())))
        (bot_id,) = run.idle_bots(services["off"], 1)
        clients = {name: stack.enter_context(run.client(BARE, Setting("", s.target))) for name, s in services.items()}
        for client in clients.values():
            client.call("each", "synced", [bot_id])
        kinds = [(name, suffix) for suffix in _OPERATIONS for name in services]
        series: dict[str, list[float]] = {name + suffix: [] for name, suffix in kinds}
        draw = random.Random(11)
        before = _scrape(run.metrics)
        for number in range(rounds + 1):
            _scrape(run.metrics)
            for name, suffix in draw.sample(kinds, len(kinds)):
                seconds, _ = clients[name].call("each", _OPERATIONS[suffix], [bot_id] * _CALLS)
                if number:
                    series[name + suffix].append(median(seconds))
        # In a smoke run, both are the same service.
        asked = sum(services[name] is services["on"] for name, _ in kinds) * (rounds + 1) * _CALLS
        # What is served may be a second old.
        if not wait_for(lambda: _scrape(run.metrics) - before == asked, 10):
            raise ProcessError(f"the metrics counted {_scrape(run.metrics) - before:.0f} statuses of {asked}")
        if not wait_for(lambda: run.echo().call("exports") > 0, 10):
            raise ProcessError("no span has reached the collector")
    rows = [[name, ms(median(s)), str(ratio(s, series["off"]))] for name, s in series.items()]
    part.table(f"Telemetry: status, 1 container (ms, medians of {rounds} rounds)", ["", "p50", "to off [95 %]"], rows)
    part.samples = series
    part.at_most("status p50: metrics, traces and JSON log on / off", ratio(series["on"], series["off"]), 1.1)
    return part


def _scrape(metrics: str) -> float:
    """How many statuses the metrics have counted."""
    with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=10) as answer:
        return sum(float(count) for count in _COUNT.findall(answer.read().decode()))
