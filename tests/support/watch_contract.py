"""The contract of every backend for what is observed: changes of containers, and stats."""

from __future__ import annotations

import uuid

import pytest

from botmaker.container.v1 import container_observer_pb2 as observer_pb
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from tests.support.calls import FOREVER, Calls, fails_with
from tests.support.lifecycle_contract import SomeBots
from tests.support.observing import after_synced, kinds, reading, watching


class WatchContract:
    """WatchContainers."""

    def test_snapshots_of_what_is_there_then_synced(
        self, calls: Calls, observer: ContainerObserverStub, bots: SomeBots
    ) -> None:
        made = [bots.new() for _ in range(3)]
        for bot_id in made:
            calls.create(bot_id, *FOREVER)
        with watching(observer, made) as watch:
            assert ["snapshot"] * 3 + ["synced"] == kinds(watch.messages[:4])
            assert calls.listed(made) == [message.snapshot for message in watch.messages[:3]]

    def test_a_bots_whole_life_is_told_with_the_statuses_that_get_answers(
        self, calls: Calls, observer: ContainerObserverStub, bots: SomeBots
    ) -> None:
        bot_id = bots.new()
        with watching(observer, [bot_id]) as watch:
            container_id = calls.create(bot_id, *FOREVER)
            shown = [calls.status(bot_id)]
            calls.start(bot_id)
            shown.append(calls.status(bot_id))
            calls.stop(bot_id, grace=0)
            shown.append(calls.status(bot_id))
            calls.remove(bot_id)
            told = watch.wait_for(lambda messages: "removed" in kinds(messages) and after_synced(messages), "removed")
        assert shown == [message.changed for message in told if message.changed in shown]
        assert observer_pb.Removed(bot_id=bot_id, container_id=container_id) == told[-1].removed
        versions = [message.version for message in watch.messages]
        assert sorted(versions) == versions
        assert len(set(versions[1:])) == len(versions[1:])

    def test_a_bot_without_a_container_is_told_of_when_it_gets_one(
        self, calls: Calls, observer: ContainerObserverStub, bots: SomeBots
    ) -> None:
        bot_id, other = bots.new(), bots.new()
        with watching(observer, [bot_id]) as watch:
            calls.create(other, *FOREVER)
            container_id = calls.create(bot_id, *FOREVER)
            told = watch.wait_for(after_synced, "a change")
            assert container_id == told[0].changed.container_id
            assert {bot_id} == {message.changed.bot_id for message in told}

    def test_a_watch_can_be_narrowed_to_labels(
        self, calls: Calls, observer: ContainerObserverStub, bots: SomeBots
    ) -> None:
        before, other, after = bots.new(), bots.new(), bots.new()
        mark = {"mark": f"test-{before}"}
        calls.create(before, *FOREVER, labels={**mark, "team": "blue"})
        with reading(observer.WatchContainers(observer_pb.WatchContainersRequest(labels=mark))) as watch:
            watch.wait_for(lambda messages: "synced" in kinds(messages), "synced")
            calls.create(other, *FOREVER, labels={"team": "blue"})
            calls.create(after, *FOREVER, labels=mark)
            calls.remove(other)
            calls.remove(after)
            told = watch.wait_for(lambda messages: "removed" in kinds(messages) and after_synced(messages), "removed")
        assert [before] == [message.snapshot.bot_id for message in watch.messages if message.HasField("snapshot")]
        assert {after} == {message.changed.bot_id or message.removed.bot_id for message in told}

    @pytest.mark.parametrize("bot_ids", [[""], [str(uuid.uuid4()), "x"], [str(uuid.uuid4()).upper()]])
    def test_a_bad_bot_id_is_refused(self, observer: ContainerObserverStub, bot_ids: list[str]) -> None:
        for call in (
            observer.WatchContainers(observer_pb.WatchContainersRequest(bot_ids=bot_ids)),
            observer.WatchStats(observer_pb.WatchStatsRequest(bot_ids=bot_ids)),
            observer.StreamLogs(observer_pb.StreamLogsRequest(bot_id=bot_ids[-1])),
        ):
            with fails_with("INVALID_ARGUMENT", "INVALID_BOT_ID"):
                next(call)
        with fails_with("INVALID_ARGUMENT", "INVALID_BOT_ID"):
            observer.GetStats(observer_pb.GetStatsRequest(bot_ids=bot_ids))
        with fails_with("INVALID_ARGUMENT", "INVALID_BOT_ID"):
            observer.GetContainerConfig(observer_pb.GetContainerConfigRequest(bot_id=bot_ids[-1]))

    def test_stats_have_one_sample_of_each_running_bot(
        self, calls: Calls, observer: ContainerObserverStub, bots: SomeBots
    ) -> None:
        running, created, stopped = bots.new(), bots.new(), bots.new()
        container_id = calls.run(running, *FOREVER)
        calls.create(created, *FOREVER)
        calls.run(stopped, *FOREVER)
        calls.stop(stopped, grace=0)
        request = observer_pb.GetStatsRequest(bot_ids=[running, created, stopped])
        (sample,) = observer.GetStats(request).containers
        assert (running, container_id) == (sample.bot_id, sample.container_id)
        assert 0 < sample.memory_usage_bytes < sample.memory_limit_bytes
        assert sample.pids >= 1
        (same,) = observer.GetStats(request).containers
        assert sample == same
        request.max_age.FromNanoseconds(0)
        (later,) = observer.GetStats(request).containers
        assert sample.time.ToNanoseconds() < later.time.ToNanoseconds()

    def test_too_many_bot_ids_are_refused(self, observer: ContainerObserverStub) -> None:
        bot_ids = [str(uuid.UUID(int=number)) for number in range(10_001)]
        with reading(observer.WatchContainers(observer_pb.WatchContainersRequest(bot_ids=bot_ids))) as read:
            error = read.wait_end()
        with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
            raise error or AssertionError("it was taken")
