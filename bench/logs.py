"""How fast a container's log is streamed, and what a reader costs that does not read.

The log is 100,000 short lines, all written before. It is read whole through each candidate in turn, in rounds: the
engine's own bytes by raw HTTP, the docker SDK's ``logs(stream=True)``, and ``StreamLogs`` twice: by the generated stub,
and by a client that only cuts frames into messages (``bench.http2_streams``), which shows what the service alone can.
The floor: an empty ``grpc.aio`` service that streams as many messages of the same bytes to such a client.

Then eight readers follow that log and read nothing, not even from their sockets. How much larger the service's memory
(RSS) is after three seconds, and after three more, is what it keeps for them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from statistics import median

from bench.belongings import Belongings
from bench.candidates import RAW, SERVICE
from bench.chart import Bars
from bench.child import Child
from bench.echo_service import EchoProcess
from bench.engine_http import RawEngine
from bench.figures import ratio
from bench.log_readers import FrameReader, RawReader, Reading, SdkReader, StubReader
from bench.report import Part, Table
from bench.service_process import ServiceProcess
from botmaker.container.v1 import container_observer_pb2 as pb
from container_manager.model import container_name

LINES = 100_000
_ROUNDS = 6
_QUICK_ROUNDS = 2
_UNREAD = 8
_UNREAD_SECONDS = 3
_WRITTEN_SECONDS = 60
_LAST = b"that is all"
_LINE = "a line of a log, of usual size"
_COMMAND = ("sh", "-c", f"yes '{_LINE}' | head -n {LINES}; echo {_LAST.decode()}; exec sleep 86400")
_FRAMES = "service, frames only"
_SDK = "SDK logs(stream=True)"
_FLOOR = "empty service, frames only"
_SEED = 8


def measure(belongings: Belongings, docker_host: str, *, rounds: int | None, quick: bool) -> Part:
    """Have the log written, and read it."""
    part = Part("logs", __doc__ or "")
    count = rounds or (_QUICK_ROUNDS if quick else _ROUNDS)
    print(f"logs, {LINES:,} lines: {count} rounds", flush=True)
    (bot_id,) = belongings.running_containers(1, _COMMAND)
    _await_written(docker_host, bot_id)
    readings: dict[str, list[Reading]] = {}
    cpu: dict[str, list[float]] = {}
    draw = random.Random(_SEED)
    with ExitStack() as stack:
        service = stack.enter_context(ServiceProcess(belongings, docker_host, "logs"))
        kinds: dict[str, tuple[Callable[..., object], str]] = {
            RAW: (RawReader, docker_host),
            _SDK: (SdkReader, docker_host),
            SERVICE: (StubReader, service.target),
            _FRAMES: (FrameReader, str(service.socket)),
        }
        readers = {name: stack.enter_context(Child(name, *kind)) for name, kind in kinds.items()}
        echo = stack.enter_context(EchoProcess(belongings, "echo-logs", _message(docker_host, bot_id)))
        floor = stack.enter_context(Child(_FLOOR, FrameReader, str(echo.socket)))
        for turn in range(count + 1):
            for name in draw.sample(list(readers), len(readers)):
                before = service.cpu_seconds()
                reading = readers[name].call("read", bot_id)
                if turn:
                    readings.setdefault(name, []).append(reading)
                    cpu.setdefault(name, []).append(service.cpu_seconds() - before)
            poured = floor.call("pour", LINES)
            if turn:
                readings.setdefault(_FLOOR, []).append(poured)
        rss = [service.memory().rss]
        readers[_FRAMES].call("open_unread", bot_id, _UNREAD)
        for _ in range(2):
            time.sleep(_UNREAD_SECONDS)
            rss.append(service.memory().rss)
    _tell(part, {name: readings[name] for name in (*kinds, _FLOOR)}, cpu)
    _tell_unread(part, rss)
    return part


def _tell_unread(part: Part, rss: list[int]) -> None:
    before, *later = rss
    rows = [
        [f"after {_UNREAD_SECONDS * number} s", f"{(now - before) / 1e6:.2f}", f"{(now - before) / 1e6 / _UNREAD:.2f}"]
        for number, now in enumerate(later, 1)
    ]
    title = f"RSS of the service, grown by {_UNREAD} readers that do not read (MB)"
    part.tables.append(Table(title, ["", "all", "each"], rows))
    part.samples["unread_rss"] = rss


def _await_written(docker_host: str, bot_id: str) -> None:
    ends = time.monotonic() + _WRITTEN_SECONDS
    while True:
        with closing(RawEngine(docker_host)) as engine:
            if any(_LAST in data for data in engine.log(container_name(bot_id), tail=1)):
                return
        if time.monotonic() > ends:
            raise TimeoutError(f"the log was not written within {_WRITTEN_SECONDS} s")
        time.sleep(0.2)


def _message(docker_host: str, bot_id: str) -> bytes:
    """The service's message for a line of the log."""
    with closing(RawEngine(docker_host)) as engine:
        created = engine.inspect(container_name(bot_id))["Created"]
    entry = pb.LogEntry(source=pb.LogEntry.SOURCE_STDOUT, line=_LINE.encode())
    entry.time.FromJsonString(created)
    return pb.StreamLogsResponse(entry=entry).SerializeToString()


def _tell(part: Part, readings: dict[str, list[Reading]], cpu: dict[str, list[float]]) -> None:
    seconds = {name: [reading.seconds for reading in of_name] for name, of_name in readings.items()}
    rows = []
    for name, of_name in readings.items():
        whole = of_name[-1]
        rows.append(
            [
                name,
                f"{whole.entries:,}",
                f"{whole.size / 1e6:.1f}",
                f"{median(seconds[name]):.2f}",
                f"{whole.entries / median(seconds[name]):,.0f}",
                f"{median(cpu[name]):.2f}" if name in (SERVICE, _FRAMES) else "",
                str(ratio(seconds[name], seconds[RAW])),
            ]
        )
    head = ["", "entries", "MB", "s", "entries/s", "CPU of the service (s)", f"to {RAW} [95 %]"]
    part.tables.append(Table(f"A whole log (medians of {len(seconds[RAW])} rounds)", head, rows))
    wrong = {row[0]: row[1] for row in rows if row[1] != f"{LINES + 1:,}" and row[0] != _FLOOR}
    if wrong:
        part.notes.append(f"not everybody read {LINES + 1:,} entries: {wrong}")
    values = {name: median(s) for name, s in seconds.items()}
    part.bars.append(Bars(f"A log of {LINES:,} lines, p50", "s", values, base=RAW, ours=(SERVICE, _FRAMES)))
    part.samples["seconds"] = seconds
