"""Containers with a bot's labels and another name, as BotMaker made them: shown as they are, and never changed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from botmaker.container.v1 import bot_provisioner_pb2 as provisioner_pb
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from botmaker.container.v1.container_observer_pb2 import GetContainerConfigRequest, GetStatsRequest, StreamLogsRequest
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager.bot_directories import RootDirectory
from container_manager.model import ContainerState, container_name
from tests.support.calls import Calls, fails_with
from tests.support.memory_backend import MemoryBackend, MemoryBots
from tests.support.observing import watching
from tests.support.provisioning_calls import delete_secrets, delete_state, put_secrets
from tests.support.waiting import wait_until

MISMATCH = ("FAILED_PRECONDITION", "CONTAINER_NAME_MISMATCH")
CHANGES: dict[str, Callable[[Calls, str], object]] = {
    "create": lambda calls, bot_id: calls.create(bot_id),
    "create with a request id": lambda calls, bot_id: calls.create(bot_id, request_id="wish"),
    "start": lambda calls, bot_id: calls.start(bot_id),
    "stop": lambda calls, bot_id: calls.stop(bot_id, grace=0),
    "restart": lambda calls, bot_id: calls.restart(bot_id, grace=0),
    "remove": lambda calls, bot_id: calls.remove(bot_id, grace=0),
}


@pytest.fixture(params=["from the view", "from the backend"])
def memory(request: pytest.FixtureRequest, memory: MemoryBackend) -> MemoryBackend:
    """Reads are answered by the live view, or by the backend while there are no notices."""
    memory.notices_fail = request.param == "from the backend"
    return memory


def add(memory: MemoryBackend, calls: Calls, bot_id: str, name: str, state: str = "running") -> str:
    """A container of that name, once it is listed."""
    container_id = memory.add(bot_id, ContainerState(state), name=name)
    wait_until(lambda: name in [each.name for each in calls.listed([bot_id])], "it is listed by its name")
    return container_id


@pytest.mark.parametrize("state", ["running", "exited", "created", "paused"])
def test_every_change_is_refused_and_the_container_is_shown_under_its_real_name(
    calls: Calls, memory: MemoryBackend, bots: MemoryBots, state: str
) -> None:
    bot_id = bots.new()
    container_id = add(memory, calls, bot_id, "botmaker-anna", state)
    before = memory.containers[container_id].status
    for change in CHANGES.values():
        with fails_with(*MISMATCH) as caught:
            change(calls, bot_id)
        assert {"bot_id": bot_id, "container_id": container_id, "name": "botmaker-anna"} == caught[0].metadata
        assert "container-manager adopt" in caught[0].message
    status = calls.status(bot_id)
    assert status is not None
    assert ("botmaker-anna", container_id) == (status.name, status.container_id)
    assert pb.ContainerState.Value(f"CONTAINER_STATE_{state.upper()}") == status.state
    assert [status] == calls.listed([bot_id])
    assert {container_id: before} == {each.status.container_id: each.status for each in bots.containers()}


def test_its_configuration_is_none_that_a_create_could_give(
    calls: Calls, observer: ContainerObserverStub, memory: MemoryBackend, bots: MemoryBots
) -> None:
    bot_id = bots.new()
    container_id = add(memory, calls, bot_id, "botmaker-anna")
    with fails_with("FAILED_PRECONDITION", "CONFIG_NOT_REPRODUCIBLE") as caught:
        observer.GetContainerConfig(GetContainerConfigRequest(bot_id=bot_id), timeout=60)
    assert (container_id, "Name") == (caught[0].metadata["container_id"], caught[0].metadata["fields"])


def test_of_several_the_newest_is_the_bots_and_all_are_listed(
    calls: Calls, memory: MemoryBackend, bots: MemoryBots
) -> None:
    bot_id = bots.new()
    made = [add(memory, calls, bot_id, f"botmaker-{name}") for name in ("anna", "zoe", "berta")]
    status = calls.status(bot_id)
    assert status is not None
    assert made[2] == status.container_id
    with fails_with(*MISMATCH) as caught:
        calls.stop(bot_id)
    assert made[2] == caught[0].metadata["container_id"]
    assert made == [each.container_id for each in calls.listed([bot_id])]
    memory.delete(memory.containers[made[2]])
    wait_until(lambda: (now := calls.status(bot_id)) and now.container_id == made[1], "the second newest is shown")


def test_beside_the_bots_own_container_it_is_only_listed(calls: Calls, memory: MemoryBackend, bots: MemoryBots) -> None:
    bot_id = bots.new()
    own = calls.create(bot_id)
    other = add(memory, calls, bot_id, "botmaker-anna")
    before = memory.containers[other].status
    calls.start(bot_id)
    status = calls.status(bot_id)
    assert status is not None
    assert (own, pb.CONTAINER_STATE_RUNNING) == (status.container_id, status.state)
    with fails_with("ALREADY_EXISTS", "CONTAINER_ALREADY_EXISTS"):
        calls.create(bot_id)
    assert {own, other} == {each.container_id for each in calls.listed([bot_id])}
    calls.restart(bot_id, grace=0)
    calls.stop(bot_id, grace=0)
    calls.remove(bot_id)
    assert {other: before} == {each.status.container_id: each.status for each in bots.containers()}
    # Now it is all that the bot has.
    status = calls.status(bot_id)
    assert status is not None
    assert other == status.container_id
    with fails_with(*MISMATCH):
        calls.remove(bot_id)


def test_a_name_that_a_foreign_container_holds_is_told_first(
    calls: Calls, memory: MemoryBackend, bots: MemoryBots
) -> None:
    bot_id = bots.new()
    container_id = add(memory, calls, bot_id, "botmaker-anna")
    memory.add(bot_id, managed=False)
    for change in CHANGES.values():
        with fails_with("FAILED_PRECONDITION", "NAME_IN_USE_UNMANAGED"):
            change(calls, bot_id)
    status = calls.status(bot_id)
    assert status is not None
    assert container_id == status.container_id


def test_once_it_is_renamed_every_verb_acts_on_it(calls: Calls, memory: MemoryBackend, bots: MemoryBots) -> None:
    bot_id = bots.new()
    container_id = add(memory, calls, bot_id, "botmaker-anna")
    with fails_with(*MISMATCH):
        calls.stop(bot_id)
    memory.change(bot_id, name=container_name(bot_id))
    calls.stop(bot_id, grace=0)
    status = calls.status(bot_id)
    assert status is not None
    assert (container_id, container_name(bot_id)) == (status.container_id, status.name)
    assert pb.CONTAINER_STATE_EXITED == status.state
    calls.start(bot_id)
    calls.restart(bot_id, grace=0)
    calls.remove(bot_id, grace=0)
    assert [] == bots.containers()


def test_what_depends_on_the_bots_having_a_container_sees_it(
    calls: Calls, provisioner: BotProvisionerStub, memory: MemoryBackend, bots: MemoryBots
) -> None:
    bot_id = bots.bare()
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"first")
    container_id = add(memory, calls, bot_id, "botmaker-anna")
    run = memory.containers[container_id].status.start_time_ns
    for delete in (delete_secrets, delete_state):
        with fails_with("FAILED_PRECONDITION", "INVALID_STATE") as caught:
            delete(provisioner, bot_id)
        assert container_id == caught[0].metadata["container_id"]
    for mode in ("MODE_RELOAD", "MODE_RELOAD_OR_RESTART"):
        with fails_with(*MISMATCH) as caught:
            provisioner.ReloadSecrets(provisioner_pb.ReloadSecretsRequest(bot_id=bot_id, mode=mode), timeout=60)
        assert "botmaker-anna" == caught[0].metadata["name"]
    assert [] == memory.actions.runs
    # The token that its process has loaded is kept: after its adoption it can be reloaded with that.
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"second")
    assert (run, b"first") == memory.secrets.kept[bot_id]
    memory.change(bot_id, name=container_name(bot_id))
    provisioner.ReloadSecrets(provisioner_pb.ReloadSecretsRequest(bot_id=bot_id), timeout=60)
    assert [b"first"] == [stdin for _, _, stdin in memory.actions.runs]


class TestStreams:
    """Logs, stats and watches need the live view."""

    @pytest.fixture
    def memory(self, rpc_secrets: RootDirectory) -> MemoryBackend:
        return MemoryBackend(rpc_secrets)

    def test_logs_are_those_of_the_newest_and_beside_the_bots_own_container_of_that_one(
        self, calls: Calls, observer: ContainerObserverStub, memory: MemoryBackend, bots: MemoryBots
    ) -> None:
        bot_id = bots.new()
        for name in ("anna", "berta"):
            add(memory, calls, bot_id, f"botmaker-{name}")
            memory.write(bot_id, name.encode())
        assert [b"berta"] == self.lines(observer, bot_id)
        self.own(calls, memory, bot_id)
        memory.write(bot_id, b"own")
        assert [b"own"] == self.lines(observer, bot_id)

    def test_logs_can_be_read_before_the_view_knows_the_container(
        self, calls: Calls, observer: ContainerObserverStub, memory: MemoryBackend, bots: MemoryBots
    ) -> None:
        calls.list()
        bot_id = bots.new()
        with memory.unnoticed():
            memory.add(bot_id, name="botmaker-anna")
            memory.write(bot_id, b"hello")
            call = observer.StreamLogs(StreamLogsRequest(bot_id=bot_id, follow=True), timeout=60)
            assert b"hello" == next(call).entry.line
            call.cancel()

    def test_stats_have_one_container_of_the_bot(
        self, calls: Calls, observer: ContainerObserverStub, memory: MemoryBackend, bots: MemoryBots
    ) -> None:
        bot_id = bots.new()

        def sampled() -> list[str]:
            samples = observer.GetStats(GetStatsRequest(), timeout=60).containers
            return [each.container_id for each in samples if each.bot_id == bot_id]

        first = add(memory, calls, bot_id, "botmaker-anna")
        assert [first] == sampled()
        second = add(memory, calls, bot_id, "botmaker-berta")
        assert [second] == sampled()
        own = self.own(calls, memory, bot_id)
        assert [own] == sampled()
        calls.stop(bot_id, grace=0)
        assert [] == sampled()
        calls.remove(bot_id)
        assert [second] == sampled()

    def test_a_watch_shows_all_of_them(
        self, calls: Calls, observer: ContainerObserverStub, memory: MemoryBackend, bots: MemoryBots
    ) -> None:
        bot_id = bots.new()
        first = add(memory, calls, bot_id, "botmaker-anna")
        with watching(observer, [bot_id]) as watch:
            assert [first] == [each.snapshot.container_id for each in watch.messages if each.HasField("snapshot")]
            second = add(memory, calls, bot_id, "botmaker-berta")
            watch.wait_for(lambda messages: second in [each.changed.container_id for each in messages], "the second")
            memory.change(bot_id, name=container_name(bot_id))
            watch.wait_for(
                lambda messages: container_name(bot_id) in [each.changed.name for each in messages], "the new name"
            )

    @staticmethod
    def own(calls: Calls, memory: MemoryBackend, bot_id: str) -> str:
        """A container with the bot's own name, which a service would refuse to make beside the others."""
        return add(memory, calls, bot_id, container_name(bot_id))

    @staticmethod
    def lines(observer: ContainerObserverStub, bot_id: str) -> list[bytes]:
        return [each.entry.line for each in observer.StreamLogs(StreamLogsRequest(bot_id=bot_id), timeout=60)]
