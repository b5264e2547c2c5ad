"""A whole lifecycle, one at a time: create, start, stop with no grace, remove.

Each round takes one new bot through each client, in an order drawn anew, so that drift of the machine and what the
engine still tidies up fall on all alike. Raw HTTP and the SDK send the engine the container that the service creates,
which is looked up before: :func:`_learned_body`. All are on the default bridge network.
"""

from __future__ import annotations

import json
import random
from contextlib import ExitStack, closing
from statistics import median
from typing import Any

from bench.clients import RAW, SDK, SERVICE, Setting
from bench.engine_http import BOT, RawEngine, container_name
from bench.figures import ms, ratio
from bench.processes import ProcessError
from bench.report import Part
from bench.run import Run

_VERBS = ("create", "start", "stop", "remove")
# A container's own, or set by who would attach to it at its create.
_OWN = ("Hostname", "AttachStdin", "AttachStdout", "AttachStderr")


def measure(run: Run) -> Part:
    """Measure the lifecycle through the service, raw HTTP and the SDK."""
    part = Part("lifecycle")
    rounds = run.rounds(300, 15, 2)
    with ExitStack() as stack:
        service = stack.enter_context(run.service())
        setting = Setting(run.docker_host, service.target, run.request().SerializeToString())
        setting = setting._replace(body=_learned_body(run, setting))
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
    part.samples = verbs
    against = ratio(whole[SERVICE], whole[RAW])
    met = against.value <= 1.03 and against.high < 1.05
    part.aim(f"lifecycle: {SERVICE} / {RAW}", str(against), "at most 1.03, interval below 1.05", met=met)
    part.at_most(f"memory after {rounds} lifecycles", rss / 1e6, 80, " MB")
    return part


def _learned_body(run: Run, setting: Setting) -> str:
    """The engine's request for the container that the service creates; :data:`BOT` stands for the bot's id.

    It is made from what the engine shows of one, and proven by another that raw HTTP creates from it.
    """
    bots = dict(zip((SERVICE, RAW), run.new_bots(2), strict=True))
    shown: dict[str, dict[str, Any]] = {}
    body = ""
    with closing(RawEngine(run.docker_host)) as engine:
        for name, bot_id in bots.items():
            with run.client(name, setting._replace(body=body)) as client:
                client.call("each", "create", [bot_id])
            shown[name] = _comparable(engine.inspect(container_name(bot_id)), bot_id)
            engine.remove(container_name(bot_id))
            body = json.dumps(shown[SERVICE])
    if shown[SERVICE] != shown[RAW]:
        raise ProcessError(f"raw HTTP makes another container than the service: {shown[RAW]}, not {shown[SERVICE]}")
    return body


def _comparable(document: dict[str, Any], bot_id: str) -> Any:
    """What makes the container, without what is its own. Empty values of any kind are the engine's defaults."""
    config = {key: value for key, value in document["Config"].items() if value and key not in _OWN}
    host = {key: value for key, value in document["HostConfig"].items() if value and value != [0, 0]}
    return json.loads(json.dumps({**config, "HostConfig": host}).replace(bot_id, BOT))
