"""The contract of every backend, as one suite that looks only at the answers over gRPC.

    class TestContract(LifecycleContract):
        ...

A backend's test module inherits the classes. Its fixtures ``calls``, ``observer``, ``provisioner`` and ``bots`` are
those of a server with that backend, and with a state root.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import grpc
import pytest

from botmaker.container.v1 import bot_provisioner_pb2 as provisioner_pb
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from tests.support.calls import FOREVER, Calls, fails_with
from tests.support.observing import after_synced, kinds, reading, watching


class SomeBots(Protocol):
    """Creates bots, and lists the containers that the backend has for them."""

    ids: list[str]

    def new(self) -> str:
        """A new bot's id; it has a secrets directory."""

    def bare(self) -> str:
        """A new bot's id; it has no secrets directory."""

    def containers(self) -> Sequence[Any]:
        """Every container of these bots."""


class LifecycleContract:
    """Create, start, stop, restart, remove, status and list."""

    def test_conformance_02_start_runs_stop_exits_and_remove_leaves_nothing(self, calls: Calls, bots: SomeBots) -> None:
        bot_id = bots.new()
        calls.run(bot_id, *FOREVER)
        running = calls.status(bot_id)
        assert running is not None
        assert running.state == pb.CONTAINER_STATE_RUNNING
        assert running.HasField("start_time")
        assert not running.HasField("finish_time")
        assert not running.HasField("exit_code")
        calls.stop(bot_id, grace=5)
        stopped = calls.status(bot_id)
        assert stopped is not None
        assert stopped.state == pb.CONTAINER_STATE_EXITED
        assert stopped.finish_time.ToNanoseconds() > running.start_time.ToNanoseconds()
        calls.remove(bot_id)
        assert calls.status(bot_id) is None
        assert calls.listed([bot_id]) == []
        assert bots.containers() == []

    def test_conformance_03_remove_of_a_stopped_a_removed_and_a_missing_container_is_ok(
        self, calls: Calls, bots: SomeBots
    ) -> None:
        bot_id = bots.new()
        calls.run(bot_id, *FOREVER)
        calls.stop(bot_id, grace=0)
        calls.remove(bot_id)
        calls.remove(bot_id)
        calls.remove(bots.new())
        assert bots.containers() == []

    def test_conformance_03_ten_removes_at_once_all_succeed(self, calls: Calls, bots: SomeBots) -> None:
        bot_id = bots.new()
        calls.run(bot_id, *FOREVER)
        with ThreadPoolExecutor(10) as pool:
            assert [None] * 10 == list(pool.map(lambda _: calls.remove(bot_id, grace=0), range(10)))
        assert bots.containers() == []

    def test_conformance_04_stop_of_a_missing_and_of_a_stopped_container_is_ok(
        self, calls: Calls, bots: SomeBots
    ) -> None:
        bot_id = bots.new()
        calls.stop(bot_id)
        calls.run(bot_id, *FOREVER)
        calls.stop(bot_id, grace=0)
        calls.stop(bot_id, grace=0)
        status = calls.status(bot_id)
        assert status is not None
        assert status.state == pb.CONTAINER_STATE_EXITED

    def test_conformance_04_start_of_a_running_container_leaves_its_process_as_it_is(
        self, calls: Calls, bots: SomeBots
    ) -> None:
        bot_id = bots.new()
        calls.run(bot_id, *FOREVER)
        before = calls.status(bot_id)
        calls.start(bot_id)
        assert before == calls.status(bot_id)

    def test_start_and_restart_of_a_missing_container_say_not_found(self, calls: Calls, bots: SomeBots) -> None:
        bot_id = bots.new()
        with fails_with("NOT_FOUND", "CONTAINER_NOT_FOUND") as caught:
            calls.start(bot_id)
        assert caught[0].metadata["bot_id"] == bot_id
        with fails_with("NOT_FOUND", "CONTAINER_NOT_FOUND"):
            calls.restart(bot_id)

    def test_restart_gives_a_new_process_in_the_same_container(self, calls: Calls, bots: SomeBots) -> None:
        bot_id = bots.new()
        calls.run(bot_id, *FOREVER)
        before = calls.status(bot_id)
        calls.restart(bot_id, grace=0)
        after = calls.status(bot_id)
        assert before is not None
        assert after is not None
        assert before.container_id == after.container_id
        assert before.start_time.ToNanoseconds() < after.start_time.ToNanoseconds()
        assert after.state == pb.CONTAINER_STATE_RUNNING

    def test_a_restarted_container_shows_how_the_run_before_ended(self, calls: Calls, bots: SomeBots) -> None:
        bot_id = bots.new()
        calls.run(bot_id, *FOREVER)
        first = calls.status(bot_id)
        assert first is not None
        assert not first.HasField("last_exit")
        calls.stop(bot_id, grace=0)
        stopped = calls.status(bot_id)
        assert stopped is not None
        assert not stopped.HasField("last_exit")
        calls.start(bot_id)
        again = calls.status(bot_id)
        assert again is not None
        assert again.last_exit == pb.LastExit(
            exit_code=stopped.exit_code, exit_reason=pb.EXIT_REASON_KILLED, finish_time=stopped.finish_time
        )

    def test_restart_of_a_stopped_container_starts_it(self, calls: Calls, bots: SomeBots) -> None:
        bot_id = bots.new()
        calls.create(bot_id, *FOREVER)
        calls.restart(bot_id)
        status = calls.status(bot_id)
        assert status is not None
        assert status.state == pb.CONTAINER_STATE_RUNNING

    def test_the_list_is_narrowed_by_state_and_ordered_by_create_time(self, calls: Calls, bots: SomeBots) -> None:
        first, second, third = bots.new(), bots.new(), bots.new()
        for bot_id in (first, second, third):
            calls.create(bot_id, *FOREVER)
        calls.start(second)
        assert [first, second, third] == [status.bot_id for status in calls.listed(bots.ids)]
        running = [status.bot_id for status in calls.list(pb.CONTAINER_STATE_RUNNING)]
        assert second in running
        assert first not in running
        both = [status.bot_id for status in calls.list(pb.CONTAINER_STATE_RUNNING, pb.CONTAINER_STATE_CREATED)]
        assert {first, second, third} <= set(both)

    def test_status_list_and_filters_have_the_hostname_and_labels_that_a_create_gave(
        self, calls: Calls, bots: SomeBots
    ) -> None:
        blue, red, plain = bots.new(), bots.new(), bots.new()
        mark = f"test-{blue}"
        calls.create(blue, *FOREVER, hostname="anna", labels={"team": "blue", "mark": mark})
        calls.create(red, *FOREVER, labels={"team": "red", "mark": mark})
        calls.create(plain, *FOREVER)
        status = calls.status(blue)
        assert status is not None
        assert ("anna", {"team": "blue", "mark": mark}) == (status.hostname, dict(status.labels))
        assert [status] == calls.listed([blue])
        unnamed = calls.status(plain)
        assert unnamed is not None
        assert ("", {}) == (unnamed.hostname, dict(unnamed.labels))

        def found(**wanted: Any) -> list[str]:
            request = pb.ListManagedContainersRequest(**wanted)
            return [each.bot_id for each in calls.stub.ListManagedContainers(request).containers]

        assert [blue, red] == found(labels={"mark": mark})
        assert [red] == found(labels={"mark": mark, "team": "red"})
        assert [] == found(labels={"mark": mark, "team": "blu"})
        assert [] == found(labels={"botmaker.bot-id": blue})
        assert [blue, plain] == found(bot_ids=[plain, blue, str(uuid.uuid4())])
        assert [blue] == found(bot_ids=[plain, blue], labels={"team": "blue"})
        assert [] == found(bot_ids=[plain, blue], states=[pb.CONTAINER_STATE_RUNNING])

    def test_conformance_11_a_second_create_is_refused_and_the_first_container_untouched(
        self, calls: Calls, bots: SomeBots
    ) -> None:
        bot_id = bots.new()
        container_id = calls.run(bot_id, *FOREVER)
        before = calls.status(bot_id)
        with fails_with("ALREADY_EXISTS", "CONTAINER_ALREADY_EXISTS") as caught:
            calls.create(bot_id, *FOREVER)
        assert {"bot_id": bot_id, "container_id": container_id} == caught[0].metadata
        assert before == calls.status(bot_id)

    def test_conformance_11_one_of_ten_creates_at_once_wins(self, calls: Calls, bots: SomeBots) -> None:
        bot_id = bots.new()

        def create(_: int) -> str:
            try:
                return calls.create(bot_id, *FOREVER)
            except grpc.RpcError as exc:
                return exc.code().name

        with ThreadPoolExecutor(10) as pool:
            results = sorted(pool.map(create, range(10)), key=len)
        assert results[:9] == ["ALREADY_EXISTS"] * 9
        assert [results[9]] == [status.container_id for status in calls.listed([bot_id])]

    def test_conformance_06_a_container_not_started_has_no_start_finish_or_exit_code(
        self, calls: Calls, bots: SomeBots
    ) -> None:
        bot_id = bots.new()
        calls.create(bot_id, *FOREVER)
        status = calls.status(bot_id)
        assert status is not None
        absent = [name for name in ("start_time", "finish_time", "exit_code") if status.HasField(name)]
        assert absent == []
        assert status.exit_reason == pb.EXIT_REASON_UNSPECIFIED

    @pytest.mark.parametrize("grace", [-1.0, 86_401.0])
    def test_a_grace_out_of_bounds_is_refused_and_stops_nothing(
        self, calls: Calls, bots: SomeBots, grace: float
    ) -> None:
        bot_id = bots.new()
        calls.run(bot_id, *FOREVER)
        with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
            calls.stop(bot_id, grace=grace)
        status = calls.status(bot_id)
        assert status is not None
        assert status.state == pb.CONTAINER_STATE_RUNNING

    def test_the_same_request_id_gives_the_same_container_and_another_one_is_refused(
        self, calls: Calls, bots: SomeBots
    ) -> None:
        bot_id = bots.new()
        first = calls.create(bot_id, *FOREVER, request_id="one")
        assert first == calls.create(bot_id, *FOREVER, request_id="one")
        with fails_with("ALREADY_EXISTS", "CONTAINER_ALREADY_EXISTS"):
            calls.create(bot_id, *FOREVER, request_id="two")

    def test_a_command_that_is_not_there_is_told_and_shown_as_a_failed_start(
        self, calls: Calls, bots: SomeBots
    ) -> None:
        bot_id = bots.new()
        calls.create(bot_id, "no-such-program")
        with fails_with("FAILED_PRECONDITION", "COMMAND_NOT_FOUND"):
            calls.start(bot_id)
        status = calls.status(bot_id)
        assert status is not None
        assert pb.EXIT_REASON_START_FAILED == status.exit_reason
        assert "no-such-program" in status.error
        assert not status.HasField("exit_code")

    def test_a_bot_without_secrets_gets_no_container(self, calls: Calls) -> None:
        bot_id = str(uuid.uuid4())
        with fails_with("FAILED_PRECONDITION", "SECRETS_UNAVAILABLE"):
            calls.create(bot_id, *FOREVER)
        assert calls.status(bot_id) is None


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


class ProvisioningContract:
    """BotProvisioner."""

    def test_a_bots_secrets_are_written_listed_replaced_and_deleted(
        self, provisioner: BotProvisionerStub, bots: SomeBots
    ) -> None:
        bot_id = bots.bare()
        begun = time.time_ns()
        assert {} == listed_secrets(provisioner, bot_id)
        put_secrets(provisioner, bot_id, B=b"two", A=b"")
        put_secrets(provisioner, bot_id, C=b"\0\xff")
        assert {"A": 0, "B": 3, "C": 2} == listed_secrets(provisioner, bot_id)
        secrets = provisioner.ListSecrets(provisioner_pb.ListSecretsRequest(bot_id=bot_id)).secrets
        assert ["A", "B", "C"] == [secret.name for secret in secrets]
        # File systems may round times down to a clock tick.
        assert all(begun - 1_000_000_000 < secret.time.ToNanoseconds() <= time.time_ns() for secret in secrets)
        put_secrets(provisioner, bot_id, replace_all=True, D=b"four")
        assert {"D": 4} == listed_secrets(provisioner, bot_id)
        for _ in range(2):
            provisioner.DeleteSecrets(provisioner_pb.DeleteSecretsRequest(bot_id=bot_id, names=["D", "missing"]))
            assert {} == listed_secrets(provisioner, bot_id)

    def test_a_bot_is_provisioned_created_started_removed_and_deleted(
        self, calls: Calls, provisioner: BotProvisionerStub, bots: SomeBots
    ) -> None:
        bot_id = bots.bare()
        with fails_with("FAILED_PRECONDITION", "SECRETS_UNAVAILABLE"):
            calls.create(bot_id, *FOREVER)
        put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"token")
        provisioner.PutFiles(provisioner_pb.PutFilesRequest(bot_id=bot_id, files={"workspace/a.md": b"a"}))
        calls.run(bot_id, *FOREVER)
        for delete in (delete_secrets, delete_state):
            with fails_with("FAILED_PRECONDITION", "INVALID_STATE") as caught:
                delete(provisioner, bot_id)
            assert bot_id == caught[0].metadata["bot_id"]
        assert {"GATEWAY_TOKEN": 5} == listed_secrets(provisioner, bot_id)
        put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"a new token")
        provisioner.DeleteSecrets(provisioner_pb.DeleteSecretsRequest(bot_id=bot_id, names=["missing"]))
        calls.remove(bot_id, grace=0)
        for delete in (delete_secrets, delete_state) * 2:
            delete(provisioner, bot_id)
        assert {} == listed_secrets(provisioner, bot_id)
        with fails_with("FAILED_PRECONDITION", "SECRETS_UNAVAILABLE"):
            calls.create(bot_id, *FOREVER)

    def test_calls_without_work_for_a_bot_without_anything_are_ok(
        self, provisioner: BotProvisionerStub, bots: SomeBots
    ) -> None:
        bot_id = bots.bare()
        delete_secrets(provisioner, bot_id)
        delete_state(provisioner, bot_id)
        provisioner.DeleteSecrets(provisioner_pb.DeleteSecretsRequest(bot_id=bot_id, names=["A"]))
        assert {} == listed_secrets(provisioner, bot_id)

    def test_an_invalid_provisioning_request_is_refused_with_its_field_and_changes_nothing(
        self, provisioner: BotProvisionerStub, bots: SomeBots
    ) -> None:
        bot_id = bots.bare()
        put_secrets(provisioner, bot_id, A=b"kept")
        for field, call in {
            "secrets": lambda: put_secrets(provisioner, bot_id, **{"../A": b"x", "B": b"x"}),
            "names": lambda: provisioner.DeleteSecrets(
                provisioner_pb.DeleteSecretsRequest(bot_id=bot_id, names=["A", ".."])
            ),
            "files['../A']": lambda: provisioner.PutFiles(
                provisioner_pb.PutFilesRequest(bot_id=bot_id, files={"../A": b"x", "b": b""})
            ),
        }.items():
            with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG") as caught:
                call()
            assert [field] == [name for name, _ in caught[0].field_violations]
        assert {"A": 4} == listed_secrets(provisioner, bot_id)

    @pytest.mark.parametrize("bot_id", ["", "..", "../x", "x" * 36, "0B5F0C4E-6F0A-4C55-9C3E-2F1D9A7E8B11"])
    def test_a_bad_bot_id_is_refused_by_every_provisioning_call(
        self, provisioner: BotProvisionerStub, bot_id: str
    ) -> None:
        for call in (
            lambda: put_secrets(provisioner, bot_id, A=b"x"),
            lambda: listed_secrets(provisioner, bot_id),
            lambda: delete_secrets(provisioner, bot_id),
            lambda: provisioner.PutFiles(provisioner_pb.PutFilesRequest(bot_id=bot_id, files={"a": b""})),
            lambda: delete_state(provisioner, bot_id),
        ):
            with fails_with("INVALID_ARGUMENT", "INVALID_BOT_ID"):
                call()


def put_secrets(provisioner: BotProvisionerStub, bot_id: str, *, replace_all: bool = False, **secrets: bytes) -> None:
    """PutSecrets."""
    provisioner.PutSecrets(
        provisioner_pb.PutSecretsRequest(bot_id=bot_id, secrets=secrets, replace_all=replace_all), timeout=60
    )


def listed_secrets(provisioner: BotProvisionerStub, bot_id: str) -> dict[str, int]:
    """ListSecrets; sizes by name."""
    response = provisioner.ListSecrets(provisioner_pb.ListSecretsRequest(bot_id=bot_id), timeout=60)
    return {secret.name: secret.size_bytes for secret in response.secrets}


def delete_secrets(provisioner: BotProvisionerStub, bot_id: str) -> None:
    """DeleteSecrets of the whole directory."""
    provisioner.DeleteSecrets(provisioner_pb.DeleteSecretsRequest(bot_id=bot_id), timeout=60)


def delete_state(provisioner: BotProvisionerStub, bot_id: str) -> None:
    """DeleteState."""
    provisioner.DeleteState(provisioner_pb.DeleteStateRequest(bot_id=bot_id), timeout=60)
