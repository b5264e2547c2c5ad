"""StreamLogs on a real engine: every line, once, in order, whatever breaks in between."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import docker
import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from botmaker.container.v1 import container_observer_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager_client import connect
from tests.support.bots import Bots
from tests.support.calls import Calls, fails_with
from tests.support.log_forms import FORMS, OneByOne
from tests.support.observing import reading
from tests.support.serving import server_process
from tests.support.waiting import wait_until

# Each run of the process says its number and counts on where the last one ended.
NUMBERED = """
n=$(cat /tmp/n 2>/dev/null || echo 0)
trap stop=1 TERM
while [ -z "$stop" ]; do n=$((n+1)); echo line $n; [ $((n % 50)) = 0 ] && sleep 0.01; done
echo $n >/tmp/n
"""
RESTARTS = 10


@pytest.fixture(params=FORMS, ids=FORMS)
def form(request: pytest.FixtureRequest) -> OneByOne:
    """How entries are sent; everything else is the same."""
    return FORMS[request.param]


@pytest.fixture
def ended(calls: Calls, bots: Bots) -> Callable[[str], str]:
    """Runs a bot whose script has ended; its id."""

    def run(script: str) -> str:
        bot_id = bots.new()
        calls.run(bot_id, "sh", "-c", f"{script}\necho the end; exec sleep 100000")
        bots.wait_for_log(bot_id, b"the end")
        return bot_id

    return run


def test_lines_of_both_sources_with_growing_times(
    observer: ContainerObserverStub, ended: Callable[[str], str], form: OneByOne
) -> None:
    bot_id = ended("for i in 1 2 3; do echo out $i; echo err $i >&2; done")
    entries = form.read(observer, bot_id)
    out = [entry.line for entry in entries if entry.source == pb.LogEntry.SOURCE_STDOUT]
    err = [entry.line for entry in entries if entry.source == pb.LogEntry.SOURCE_STDERR]
    assert [b"out 1", b"out 2", b"out 3", b"the end"] == out
    assert [b"err 1", b"err 2", b"err 3"] == err
    times = [entry.time.ToNanoseconds() for entry in entries]
    assert sorted(set(times)) == times


def test_a_long_line_is_split_and_all_parts_but_the_last_marked(
    observer: ContainerObserverStub, ended: Callable[[str], str], form: OneByOne
) -> None:
    bot_id = ended("head -c 40000 /dev/zero | tr '\\0' x; echo")
    entries = form.read(observer, bot_id)
    parts = [entry for entry in entries if entry.line.startswith(b"x")]
    assert b"x" * 40_000 == b"".join(part.line for part in parts)
    assert [True] * (len(parts) - 1) + [False] == [part.partial for part in parts]
    assert all(len(part.line) <= 16_384 for part in parts)


def test_bytes_are_those_that_the_engine_keeps(
    observer: ContainerObserverStub, ended: Callable[[str], str], form: OneByOne
) -> None:
    bot_id = ended(r"printf 'nul\000 bell\a escape\033[31m caf\303\251 \r\n'; printf 'broken \377\n'")
    shown = [entry.line for entry in form.read(observer, bot_id)]
    # The engine's json-file driver replaces what is no UTF-8, before we see it.
    assert [b"nul\0 bell\a escape\033[31m caf\xc3\xa9 \r", "broken �".encode(), b"the end"] == shown


@pytest.mark.parametrize(("tail", "expected"), [(0, 0), (1, 1), (5, 5), (100_000, 101)])
def test_tail_lines(
    observer: ContainerObserverStub, ended: Callable[[str], str], tail: int, expected: int, form: OneByOne
) -> None:
    bot_id = ended("i=0; while [ $i -lt 100 ]; do i=$((i+1)); echo $i; done")
    everything = [entry.line for entry in form.read(observer, bot_id)]
    assert everything[len(everything) - expected :] == [
        entry.line for entry in form.read(observer, bot_id, tail_lines=tail)
    ]


def test_limit_bytes_ends_before_the_entry_that_would_exceed_it(
    observer: ContainerObserverStub, ended: Callable[[str], str], form: OneByOne
) -> None:
    bot_id = ended("echo 12345; echo 67890; echo abcde")
    assert [b"12345", b"67890"] == [entry.line for entry in form.read(observer, bot_id, limit_bytes=14)]
    assert [b"12345", b"67890", b"abcde"] == [entry.line for entry in form.read(observer, bot_id, limit_bytes=15)]
    with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
        form.read(observer, bot_id, limit_bytes=0)


def test_after_resumes_exactly_at_every_entry(
    observer: ContainerObserverStub, ended: Callable[[str], str], form: OneByOne
) -> None:
    bot_id = ended("for i in 1 2 3; do echo o$i; echo e$i >&2; head -c 40000 /dev/zero | tr '\\0' x; echo; done")
    entries = form.read(observer, bot_id)
    for number, entry in enumerate(entries):
        assert entries[number + 1 :] == form.read(observer, bot_id, after=entry.time)
    with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
        form.read(observer, bot_id, after=Timestamp(seconds=1, nanos=-1))


def test_every_line_once_through_ten_restarts_while_the_reader_reconnects_at_random(
    calls: Calls, target: str, bots: Bots, form: OneByOne
) -> None:
    bot_id = bots.new()
    calls.run(bot_id, "sh", "-c", NUMBERED)
    draw = random.Random(7)
    received: list[bytes] = []
    stopped = threading.Event()
    streams: list[grpc.Call] = []

    def read() -> None:
        after: Timestamp | None = None
        while not stopped.is_set():
            with connect(target) as channel, suppress(grpc.RpcError):
                request = form.request(bot_id, follow=True, after=after)
                streams.append(ContainerObserverStub(channel).StreamLogs(request))
                patience = draw.randrange(1, 400)
                entries = (entry for message in streams[-1] for entry in form.entries_of(message))
                for number, entry in enumerate(entries):
                    received.append(entry.line)
                    after = entry.time
                    if number == patience:
                        break
                streams[-1].cancel()
        with connect(target) as channel:
            received.extend(entry.line for entry in form.read(ContainerObserverStub(channel), bot_id, after=after))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(RESTARTS):
            before = len(received)
            wait_until(lambda before=before: len(received) > before + 100, "the reader reads on")
            calls.restart(bot_id, grace=5)
    finally:
        calls.stop(bot_id, grace=5)
        stopped.set()
        # It would wait for the next start.
        streams[-1].cancel()
        reader.join(timeout=60)
    assert not reader.is_alive()
    kept = bots.engine.api.logs(f"botmaker-{bot_id}").splitlines()
    assert [f"line {number}".encode() for number in range(1, len(kept) + 1)] == kept
    assert kept == received


def test_following_goes_on_across_restarts_and_ends_with_the_container(
    calls: Calls, observer: ContainerObserverStub, bots: Bots, form: OneByOne
) -> None:
    bot_id = bots.new()
    calls.create(bot_id, "sh", "-c", "echo run; exec sleep 100000")
    with reading(observer.StreamLogs(form.request(bot_id, follow=True))) as read:
        for number in range(1, 4):
            calls.start(bot_id)
            expected = [b"run"] * number
            read.wait_for(lambda messages, expected=expected: form.lines(messages) == expected, f"run {number}")
            calls.stop(bot_id, grace=0)
        assert not read.ended.is_set()
        calls.remove(bot_id)
        assert read.wait_end() is None
        assert [[b"run"]] * 3 == [form.lines([message]) for message in read.messages]


def test_a_missing_container_and_a_foreign_one_are_told_apart(
    observer: ContainerObserverStub, bots: Bots, test_image: str, test_labels: dict[str, str]
) -> None:
    bot_id = bots.new()
    with fails_with("NOT_FOUND", "CONTAINER_NOT_FOUND"):
        OneByOne().read(observer, bot_id)
    foreign = bots.engine.containers.create(test_image, "true", name=f"botmaker-{bot_id}", labels=test_labels)
    try:
        with fails_with("FAILED_PRECONDITION", "NAME_IN_USE_UNMANAGED"):
            OneByOne().read(observer, bot_id)
    finally:
        foreign.remove()


def test_a_log_driver_that_keeps_nothing_is_told(
    observer: ContainerObserverStub, bots: Bots, test_image: str, engine: docker.DockerClient
) -> None:
    bot_id = bots.new()
    labels = {"botmaker.managed": "true", "botmaker.bot-id": bot_id}
    engine.containers.create(test_image, "true", name=f"botmaker-{bot_id}", labels=labels, log_config={"type": "none"})
    with fails_with("FAILED_PRECONDITION", "INVALID_STATE") as caught:
        OneByOne().read(observer, bot_id)
    assert "does not support reading" in caught[0].message


@pytest.fixture
def apart(
    session_dir: Path, engine_url: str, secrets_root: Path, test_image: str, tmp_path: Path
) -> Iterator[tuple[int, str]]:
    """The service as a process of its own: its pid and its address."""
    address = f"unix://{session_dir}/apart/s.sock"
    arguments = ["--listen", address, "--docker-host", engine_url, "--secrets-root", str(secrets_root)]
    with server_process([*arguments, "--default-image", test_image], tmp_path / "log") as process:
        yield process.process.pid, address


def test_a_reader_that_stops_reading_does_not_grow_the_servers_memory(
    apart: tuple[int, str], bots: Bots, form: OneByOne
) -> None:
    pid, address = apart

    def resident() -> int:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    bot_id = bots.new()
    with connect(address) as channel:
        calls, observer = Calls(ContainerManagerStub(channel)), ContainerObserverStub(channel)
        script = "i=0; while [ $i -lt 150 ]; do i=$((i+1)); head -c 99000 /dev/zero | tr '\\0' x; echo; done; echo done"
        calls.run(bot_id, "sh", "-c", f"{script}; exec sleep 100000")
        bots.wait_for_log(bot_id, b"done")
        next(iter(observer.StreamLogs(form.request(bot_id, tail_lines=1))))
        before = resident()
        stuck = [observer.StreamLogs(form.request(bot_id, follow=True)) for _ in range(10)]
        for stream in stuck:
            next(stream)
        # 10 streams of 15 MB wait; one reader that does read gets all of it meanwhile.
        total = sum(len(entry.line) for entry in form.read(observer, bot_id))
        assert 150 * 99_000 + len("done") == total
        assert resident() < before + 40_000_000
        assert calls.status(bot_id) is not None
        for stream in stuck:
            stream.cancel()
