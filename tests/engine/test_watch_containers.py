"""WatchContainers on a real engine: every change, by the service or by others, arrives in order."""

from __future__ import annotations

from botmaker.container.v1 import container_manager_pb2 as manager_pb
from botmaker.container.v1 import container_observer_pb2 as pb
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from tests.support.bots import Bots
from tests.support.calls import FOREVER, Calls
from tests.support.observing import after_synced, kinds, watching
from tests.support.random_operations import create_behind_the_back
from tests.support.watch_contract import WatchContract


def states(messages: list[pb.WatchContainersResponse]) -> list[int]:
    """The states in the order in which they arrived."""
    return [message.changed.state for message in messages if message.HasField("changed")]


class TestContract(WatchContract):
    """What every backend does, on a Docker Engine."""


def test_changes_by_others_are_reported_too(calls: Calls, observer: ContainerObserverStub, bots: Bots) -> None:
    bot_id = bots.new()
    container = bots.engine.containers.get(calls.run(bot_id, *FOREVER))
    with watching(observer, [bot_id]) as watch:
        for act, state in (
            (container.pause, manager_pb.CONTAINER_STATE_PAUSED),
            (container.unpause, manager_pb.CONTAINER_STATE_RUNNING),
            (container.kill, manager_pb.CONTAINER_STATE_EXITED),
        ):
            act()
            watch.wait_for(lambda messages, state=state: states(messages)[-1:] == [state], f"state {state}")
        container.rename(f"other-{bot_id}")
        watch.wait_for(lambda messages: messages[-1].changed.name == f"other-{bot_id}", "the new name")
        status = calls.status(bot_id)
        assert status is not None
        assert f"other-{bot_id}" == status.name
        container.remove()
        watch.wait_for(lambda messages: kinds(messages)[-1] == "removed", "removed")


def test_without_bot_ids_every_container_is_reported_orphans_included(
    calls: Calls, observer: ContainerObserverStub, bots: Bots, test_image: str, test_labels: dict[str, str]
) -> None:
    bot_id = bots.new()
    engine = bots.engine
    with watching(observer) as watch:
        mine = calls.create(bot_id, *FOREVER)
        orphan = engine.containers.create(test_image, "true", labels={"botmaker.managed": "true", **test_labels})
        foreign = engine.containers.create(test_image, "true", labels=test_labels)
        try:
            for container_id in (mine, orphan.id):
                watch.wait_for(
                    lambda messages, key=container_id: key in [each.changed.container_id for each in messages], "told"
                )
        finally:
            orphan.remove()
            foreign.remove()
        watch.wait_for(lambda messages: orphan.id in [each.removed.container_id for each in messages], "removed")
        assert foreign.id not in [each.changed.container_id for each in watch.messages]


def test_a_change_of_health_is_reported(
    calls: Calls, observer: ContainerObserverStub, bots: Bots, test_image: str
) -> None:
    bot_id = bots.new()
    name = f"botmaker-{bot_id}"
    with watching(observer, [bot_id]) as watch:
        create_behind_the_back(bots.engine.api, name, bot_id, test_image)
        bots.engine.api.start(name)
        for command, health in (
            (["true"], manager_pb.HEALTH_STATUS_HEALTHY),
            (["touch", "/tmp/sick"], manager_pb.HEALTH_STATUS_UNHEALTHY),
            (["rm", "/tmp/sick"], manager_pb.HEALTH_STATUS_HEALTHY),
        ):
            bots.engine.api.exec_start(bots.engine.api.exec_create(name, command)["Id"])
            watch.wait_for(lambda messages, health=health: messages[-1].changed.health == health, f"health {health}")
            assert health == calls.status(bot_id).health


def test_a_network_that_is_taken_away_and_given_back_changes_the_ports_that_are_told(
    calls: Calls, observer: ContainerObserverStub, bots: Bots
) -> None:
    """The engine reports it by network events only."""
    bot_id = bots.new()
    ports = [manager_pb.PortBinding(container_port=8080)]
    container_id = calls.run(bot_id, *FOREVER, ports=ports)
    with watching(observer, [bot_id]) as watch:
        bots.engine.api.disconnect_container_from_network(container_id, "bridge")
        watch.wait_for(lambda messages: after_synced(messages) and not messages[-1].changed.ports, "no ports")
        bots.engine.api.connect_container_to_network(container_id, "bridge")
        watch.wait_for(lambda messages: len(messages[-1].changed.ports) == 1, "a port again")
        assert watch.messages[-1].changed.ports == calls.status(bot_id).ports
