"""What a status costs while 200 stops of containers that ignore SIGTERM are in flight through the service.

One client sends all the stops at once; another, in a process of its own, asks for statuses one after another, of bots
drawn at random: first with nothing else going on, then from the first stop on. "In flight" are all of them until the
first ends, at the end of its grace period, with the rush at the begin included. Then the engine kills, as many at once
as the service has workers, the next ones are sent, and so on until the last has ended.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from statistics import median
from typing import Any

from bench.belongings import Belongings
from bench.candidates import SERVICE, bare_channel
from bench.chart import Bars
from bench.child import Child
from bench.figures import in_milliseconds, percentile
from bench.report import Aim, Part, Table
from bench.service_process import ServiceProcess
from bench.worker import Worker

STOPS = 200
QUICK_STOPS = 16
AIM_TIMES = 5
GRACE_SECONDS = 6
_QUICK_GRACE_SECONDS = 2
_IDLE_STATUSES = 3000
_QUICK_IDLE_STATUSES = 500
_AT_A_TIME = 50
_SEED = 7
# What is ignored when a program starts stays ignored in it (execve(2)).
_STUBBORN = ("sh", "-c", "trap '' TERM; exec sleep 86400")


class Stopper:
    """A client's side: stops that are sent and not waited for."""

    def __init__(self, target: str) -> None:
        self._channel = bare_channel(target)
        self._stops: list[Any] = []

    def stop(self, bot_ids: list[str], grace_seconds: int) -> None:
        """Send a stop for each."""
        from botmaker.container.v1 import container_manager_pb2 as pb
        from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub

        stub = ContainerManagerStub(self._channel)
        self._stops = [
            stub.StopContainer.future(pb.StopContainerRequest(bot_id=bot_id, grace_period={"seconds": grace_seconds}))
            for bot_id in bot_ids
        ]

    def ended(self) -> int:
        """How many have ended. Raises what one of them failed with."""
        ended = [stop for stop in self._stops if stop.done()]
        for stop in ended:
            stop.result()
        return len(ended)


def measure(belongings: Belongings, docker_host: str, *, quick: bool) -> Part:
    """Start the containers, and stop them once."""
    part = Part("busy", __doc__ or "")
    count, grace = (QUICK_STOPS, _QUICK_GRACE_SECONDS) if quick else (STOPS, GRACE_SECONDS)
    print(f"busy: {count} containers are started, which takes a while", flush=True)
    bot_ids = belongings.running_containers(count, _STUBBORN)
    print(f"busy: {count} stops with a grace period of {grace} s", flush=True)
    draw = random.Random(_SEED)
    with (
        ServiceProcess(belongings, docker_host, "busy") as service,
        Worker(SERVICE, belongings.setting(service.target)) as client,
        Child("stopper", Stopper, service.target) as stopper,
    ):
        client.first_synced(service.target, bot_ids[0])
        stopper.call("ended")

        def statuses(more: Callable[[int], bool]) -> list[float]:
            done: list[float] = []
            while more(len(done)):
                done += client.statuses(draw.choices(bot_ids, k=_AT_A_TIME))
            return done

        statuses(lambda done: done < _AT_A_TIME)
        idle = statuses(lambda done: done < (_QUICK_IDLE_STATUSES if quick else _IDLE_STATUSES))
        stopper.call("stop", bot_ids, grace)
        in_flight = statuses(lambda _: stopper.call("ended") == 0)
        ending = statuses(lambda _: stopper.call("ended") < count)
    _tell(part, count, {"idle": idle, f"{count} in flight": in_flight, "until the last has ended": ending})
    return part


def _tell(part: Part, count: int, series: dict[str, list[float]]) -> None:
    idle, in_flight, _ = series.values()
    base = median(idle)
    rows = [
        [
            name,
            f"{len(s):,}",
            *(in_milliseconds(percentile(s, percent)) for percent in (50, 99, 100)),
            f"{percentile(s, 99) / base:.2f}",
        ]
        for name, s in series.items()
    ]
    head = ["", "statuses", "p50", "p99", "most", "p99 / idle p50"]
    part.tables.append(Table(f"Status while {count} stubborn containers are stopped (ms)", head, rows))
    times = percentile(in_flight, 99) / base
    if count == STOPS:
        part.aims.append(
            Aim(
                f"status p99 with {count} stops in flight / idle p50",
                f"{times:.2f}",
                f"at most {AIM_TIMES}",
                met=times <= AIM_TIMES,
            )
        )
    names = {f"p{percent}, {name}": percentile(s, percent) * 1000 for name, s in series.items() for percent in (50, 99)}
    part.bars.append(
        Bars(f"Status while {count} stops are in flight", "ms", names, base="p50, idle", ours=tuple(names))
    )
    part.samples["status_seconds"] = series
