"""The contract of every backend for a container's lifecycle, as one suite that looks only at the answers over gRPC.

    class TestContract(LifecycleContract):
        ...

A backend's test module inherits the class. Its fixtures ``calls``, ``observer``, ``provisioner`` and ``bots`` are
those of a server with that backend, and with a state root. The same holds for the other modules ``…_contract``.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import grpc
import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from tests.support.calls import FOREVER, Calls, fails_with


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
