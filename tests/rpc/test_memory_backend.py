"""The backend in memory keeps the contract of all backends."""

from __future__ import annotations

from botmaker.container.v1.container_observer_pb2 import LogEntry, StreamLogsRequest, WatchStatsRequest
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager.model import LogSource
from tests.support.calls import Calls, fails_with
from tests.support.lifecycle_contract import LifecycleContract
from tests.support.memory_backend import MemoryBackend, MemoryBots
from tests.support.observing import reading
from tests.support.provisioning_contract import ProvisioningContract
from tests.support.watch_contract import WatchContract


class TestLifecycle(LifecycleContract):
    """With the fixtures of this directory."""


class TestWatch(WatchContract):
    """With the fixtures of this directory."""


class TestProvisioning(ProvisioningContract):
    """With the fixtures of this directory."""


def test_a_log_is_read_as_it_was_written(
    observer: ContainerObserverStub, memory: MemoryBackend, bots: MemoryBots
) -> None:
    bot_id = bots.new()
    memory.add(bot_id)
    memory.write(bot_id, b"out")
    memory.write(bot_id, b"err", LogSource.STDERR, partial=True)
    entries = [each.entry for each in observer.StreamLogs(StreamLogsRequest(bot_id=bot_id))]
    assert [(b"out", LogEntry.SOURCE_STDOUT, False), (b"err", LogEntry.SOURCE_STDERR, True)] == [
        (each.line, each.source, each.partial) for each in entries
    ]
    assert [b"err"] == [each.entry.line for each in observer.StreamLogs(StreamLogsRequest(bot_id=bot_id, tail_lines=1))]


def test_a_log_is_continued_after_any_cursor(
    observer: ContainerObserverStub, memory: MemoryBackend, bots: MemoryBots
) -> None:
    bot_id = bots.new()
    memory.add(bot_id)
    for number in range(5):
        memory.write(bot_id, b"%d" % number)
    entries = [each.entry for each in observer.StreamLogs(StreamLogsRequest(bot_id=bot_id))]
    for number, entry in enumerate(entries, 1):
        rest = observer.StreamLogs(StreamLogsRequest(bot_id=bot_id, after_cursor=entry.cursor))
        assert entries[number:] == [each.entry for each in rest]
    for wrong in ({"after_cursor": "?"}, {"after_cursor": entries[0].cursor, "after": entries[0].time}):
        with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG") as caught:
            list(observer.StreamLogs(StreamLogsRequest(bot_id=bot_id, **wrong)))
        assert "after_cursor" in caught[0].message


def test_a_followed_log_goes_on_across_a_restart_and_ends_with_the_container(
    calls: Calls, observer: ContainerObserverStub, memory: MemoryBackend, bots: MemoryBots
) -> None:
    bot_id = bots.new()
    calls.run(bot_id)
    memory.write(bot_id, b"first")
    with reading(observer.StreamLogs(StreamLogsRequest(bot_id=bot_id, follow=True))) as read:
        read.wait_for(lambda messages: len(messages) == 1, "the first line")
        memory.write(bot_id, b"second")
        calls.stop(bot_id)
        calls.start(bot_id)
        memory.write(bot_id, b"third")
        read.wait_for(lambda messages: len(messages) == 3, "all lines")
        calls.remove(bot_id)
        assert read.wait_end() is None
    assert [b"first", b"second", b"third"] == [message.entry.line for message in read.messages]


def test_figures_come_of_what_runs(observer: ContainerObserverStub, calls: Calls, bots: MemoryBots) -> None:
    running, created = bots.new(), bots.new()
    calls.run(running)
    calls.create(created)
    with reading(observer.WatchStats(WatchStatsRequest())) as read:
        figures = read.wait_for(lambda messages: messages, "figures")
    assert {running} == {each.bot_id for each in figures}
    assert 33 < figures[0].cpu_percent < 34
    assert (1_000_000, 4_000_000) == (figures[0].memory_usage_bytes, figures[0].memory_limit_bytes)


def test_a_foreign_container_with_a_bots_name_is_left_alone(
    calls: Calls, memory: MemoryBackend, bots: MemoryBots
) -> None:
    bot_id = bots.new()
    memory.add(bot_id, managed=False)
    for call in (calls.create, calls.start, calls.stop, calls.restart, calls.remove):
        with fails_with("FAILED_PRECONDITION", "NAME_IN_USE_UNMANAGED"):
            call(bot_id)
    assert calls.status(bot_id) is None
    assert [] == calls.list()
    assert 1 == len(memory.containers)
