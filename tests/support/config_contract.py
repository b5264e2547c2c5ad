"""The contract of every backend for reading a container's configuration back, over gRPC.

A test module inherits the class. Its fixtures ``calls``, ``observer`` and ``bots`` are those of a server with that
backend; ``full_config`` is a configuration in which every field is set, and which the backend can carry out.
"""

from __future__ import annotations

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from tests.support.calls import FOREVER, Calls, fails_with
from tests.support.lifecycle_contract import SomeBots


def read_config(observer: ContainerObserverStub, bot_id: str) -> observer_pb.GetContainerConfigResponse:
    """GetContainerConfig."""
    return observer.GetContainerConfig(observer_pb.GetContainerConfigRequest(bot_id=bot_id), timeout=60)


class ConfigContract:
    """GetContainerConfig."""

    def test_a_configuration_of_every_field_is_read_back_and_makes_an_equal_container(
        self, calls: Calls, observer: ContainerObserverStub, bots: SomeBots, full_config: pb.ContainerConfig
    ) -> None:
        assert {field.name for field in pb.ContainerConfig.DESCRIPTOR.fields} == {
            field.name for field, _ in full_config.ListFields()
        }
        one, other = bots.new(), bots.new()
        calls.stub.CreateContainer(pb.CreateContainerRequest(bot_id=one, config=full_config))
        read = read_config(observer, one)
        assert full_config == read.config
        status = calls.status(one)
        assert status is not None
        assert status.image_id == read.image_id
        calls.stub.CreateContainer(pb.CreateContainerRequest(bot_id=other, config=read.config))
        assert read == read_config(observer, other)

    def test_a_configuration_of_defaults_is_read_back_without_anything_but_the_image(
        self, calls: Calls, observer: ContainerObserverStub, bots: SomeBots
    ) -> None:
        bot_id = bots.new()
        calls.create(bot_id, *FOREVER, resources=pb.ResourceLimits(), network="bridge")
        status = calls.status(bot_id)
        assert status is not None
        assert pb.ContainerConfig(image=status.image, command=FOREVER) == read_config(observer, bot_id).config

    def test_a_port_is_read_back_as_it_was_asked_for_and_not_as_it_is_bound(
        self, calls: Calls, observer: ContainerObserverStub, bots: SomeBots
    ) -> None:
        bot_id = bots.new()
        calls.run(bot_id, *FOREVER, ports=[pb.PortBinding(container_port=8080)])
        (port,) = read_config(observer, bot_id).config.ports
        asked = pb.PortBinding(container_port=8080, host_ip="127.0.0.1", protocol=pb.PROTOCOL_TCP)
        assert asked == port

    def test_a_bot_without_a_container_has_no_configuration(
        self, calls: Calls, observer: ContainerObserverStub, bots: SomeBots
    ) -> None:
        never, removed = bots.new(), bots.new()
        calls.create(removed, *FOREVER)
        calls.remove(removed)
        for bot_id in (never, removed):
            with fails_with("NOT_FOUND", "CONTAINER_NOT_FOUND") as caught:
                read_config(observer, bot_id)
            assert bot_id == caught[0].metadata["bot_id"]
