"""A whole lifecycle, one at a time: create, start, stop with no grace, remove.

Each round takes one new bot through each client, in an order drawn anew, so that drift of the machine and what the
engine still tidies up fall on all alike. Raw HTTP and the SDK send the engine the container that the service creates,
as its own specification of containers has it. All are on the default bridge network.
"""

from __future__ import annotations

import json
import random
from contextlib import ExitStack
from statistics import median

from bench.clients import RAW, SDK, SERVICE, Setting
from bench.engine_http import BOT
from bench.figures import ms, ratio
from bench.report import Part
from bench.run import Run
from container_manager.backends.docker.spec import container_body
from container_manager.rpc.manager_codec import config_from_proto

_VERBS = ("create", "start", "stop", "remove")


def measure(run: Run) -> Part:
    """Measure the lifecycle through the service, raw HTTP and the SDK."""
    part = Part()
    rounds = run.rounds(300, 15, 2)
    with ExitStack() as stack:
        service = stack.enter_context(run.service())
        setting = Setting(run.docker_host, service.target, run.request().SerializeToString(), _body(run))
        clients = {name: stack.enter_context(run.client(name, setting)) for name in (SERVICE, RAW, SDK)}
        # Connections, and threads of the service, are made on demand.
        for client in clients.values():
            client.call("steps", _VERBS, run.new_bots(1)[0])
        print(f"lifecycle: {rounds} rounds", flush=True)
        verbs: dict[str, list[list[float]]] = {name: [] for name in clients}
        draw = random.Random(2)
        for _ in range(rounds):
            for name in draw.sample(list(clients), len(clients)):
                verbs[name].append(clients[name].call("steps", _VERBS, run.new_bots(1)[0]))
        rss = service.rss_bytes()
    whole = {name: [sum(times) for times in of_name] for name, of_name in verbs.items()}
    rows = [
        [name, *(ms(median(s)) for s in (*zip(*verbs[name], strict=True), total)), str(ratio(total, whole[RAW]))]
        for name, total in whole.items()
    ]
    head = ["", *_VERBS, "lifecycle", f"to {RAW} [95 %]"]
    part.table(f"Lifecycle, one at a time (ms, medians of {rounds} rounds)", head, rows)
    against = ratio(whole[SERVICE], whole[RAW])
    met = against.value <= 1.03 and against.high < 1.05
    part.aim(f"lifecycle: {SERVICE} / {RAW}", str(against), "at most 1.03, interval below 1.05", met=met)
    part.at_most(f"memory after {rounds} lifecycles", rss / 1e6, 80, " MB")
    return part


def _body(run: Run) -> str:
    """The engine's request for the container that the service creates; :data:`BOT` stands for the bot's id."""
    request = run.request()
    body = container_body(
        BOT,
        config_from_proto(request.config),
        image=request.config.image,
        secrets_source=str(run.secrets_root / BOT),
        state_source=None,
        state_target="",
        request_id=request.request_id,
        create_id=BOT,
        stop_seconds=10,
    )
    return json.dumps(body)
