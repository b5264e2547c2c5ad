"""GetContainerConfig on a real engine: what is read back makes a container that the engine shows as the same."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest
from google.protobuf.duration_pb2 import Duration

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager.backends.docker.spec import container_body
from container_manager.model import container_name
from container_manager.rpc.manager_codec import config_from_proto
from tests.support.bots import Bots
from tests.support.calls import FOREVER, Calls, fails_with
from tests.support.config_contract import ConfigContract, read_config
from tests.support.engine_documents import created

CHANGES = """
ENV GIVEN=image KEPT=image TZ=UTC AI_MODEL=small
LABEL team=red app=openclaw botmaker.bot-hostname=berta
HEALTHCHECK --interval=1h --retries=9 CMD true
VOLUME /data
EXPOSE 99/tcp
ENTRYPOINT ["env"]
CMD ["sleep", "1"]
USER node
WORKDIR /home
""".strip()
MakeByHand = Callable[..., str]


@pytest.fixture
def image(engine: docker.DockerClient, test_image: str, test_labels: dict[str, str]) -> Iterator[str]:
    """An image that sets whatever an image can set, made from a container."""
    container = engine.containers.create(test_image, FOREVER, labels=test_labels, tty=True, stop_signal="SIGINT")
    try:
        made = container.commit("botmaker-test/config", uuid.uuid4().hex[:12], changes=CHANGES.split("\n"))
    finally:
        container.remove()
    yield made.tags[0]
    engine.images.remove(made.id, force=True)


@pytest.fixture
def network(bots: Bots, test_labels: dict[str, str]) -> Iterator[str]:
    """A network of the caller's."""
    made = bots.engine.networks.create("botmaker-test-config", labels=test_labels)
    yield made.name
    bots.remove_all()
    made.remove()


@pytest.fixture
def full_config(image: str, network: str) -> pb.ContainerConfig:
    """Every field; some as the image has them."""
    return pb.ContainerConfig(
        image=image,
        ai_provider="anthropic",
        ai_model="small",
        channel_type="telegram",
        environment={"TZ": "Europe/Berlin", "EMPTY": "", "EQ": "a=b", "GIVEN": "own"},
        ports=[
            pb.PortBinding(container_port=53, host_port=0, host_ip="0.0.0.0", protocol=pb.PROTOCOL_UDP),
            pb.PortBinding(container_port=18789, host_port=0, host_ip="127.0.0.1", protocol=pb.PROTOCOL_TCP),
        ],
        network=network,
        extra_hosts={"engine.internal": "host-gateway", "six.internal": "fd00::1"},
        command=["sleep", "100000"],
        resources=pb.ResourceLimits(memory_bytes=64 << 20, nano_cpus=500_000_000, pids_limit=64),
        health_check=pb.HealthCheck(
            command=["test", "-e", "/"],
            interval=Duration(seconds=30),
            timeout=Duration(nanos=250_000_000),
            start_period=Duration(nanos=1_000_000),
            retries=3,
        ),
        hostname="anna",
        labels={"team": "blue", "empty": ""},
    )


class TestConfig(ConfigContract):
    """On a Docker Engine."""


def comparable(document: dict[str, Any], bot_id: str) -> dict[str, Any]:
    """What the engine shows of a container, without what is each container's own."""
    for label in ("botmaker.create-id", "botmaker.request-id"):
        document["Config"]["Labels"].pop(label, None)
    document["HostConfig"]["ExtraHosts"].sort()
    shown = str({"Config": dict(sorted(document["Config"].items())), "HostConfig": document["HostConfig"]})
    return eval(shown.replace(bot_id, "BOT"), {})


@pytest.mark.parametrize("inherits", [False, True])
def test_both_containers_are_the_same_field_by_field(
    calls: Calls, observer: ContainerObserverStub, bots: Bots, full_config: pb.ContainerConfig, *, inherits: bool
) -> None:
    one, other = bots.new(), bots.new()
    image = full_config.image
    given = pb.ContainerConfig(image=image, environment={"KEPT": "image", "AB": "x"}) if inherits else full_config
    calls.stub.CreateContainer(pb.CreateContainerRequest(bot_id=one, config=given))
    calls.start(one)
    read = read_config(observer, one).config
    assert given == read
    calls.stub.CreateContainer(pb.CreateContainerRequest(bot_id=other, config=read))
    assert comparable(bots.inspect(one), one) == comparable(bots.inspect(other), other)
    # And the documents of tests/unit are as this engine writes them.
    body = container_body(
        one,
        config_from_proto(read),
        image=image,
        secrets_source=f"{bots.secrets_root}/{one}",
        state_source=None,
        state_target="",
        request_id="",
        create_id="c",
        stop_seconds=10,
    )
    simulated = created(container_name(one), body, bots.engine.api.inspect_image(image)["Config"])
    assert _set(comparable(simulated, one)["Config"]) == _set(comparable(bots.inspect(one), one)["Config"])


def _set(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if value}


def test_an_image_is_read_back_as_asked_for_also_when_its_tag_has_moved_on_or_it_was_named_by_its_id(
    calls: Calls, observer: ContainerObserverStub, bots: Bots, image: str, test_image: str
) -> None:
    by_tag, by_id = bots.new(), bots.new()
    image_id = bots.engine.images.get(image).id
    calls.create(by_tag, image=image)
    calls.create(by_id, image=image_id)
    bots.engine.images.get(test_image).tag(image)
    for bot_id, asked in ((by_tag, image), (by_id, image_id)):
        read = read_config(observer, bot_id)
        # The image's own is left out, of the image that the container has.
        assert (pb.ContainerConfig(image=asked), image_id) == (read.config, read.image_id)
    bots.engine.images.remove(image)
    bots.remove_all()


def test_without_its_image_a_container_cannot_be_told_from_it(
    calls: Calls, observer: ContainerObserverStub, bots: Bots, image: str
) -> None:
    bot_id = bots.new()
    # Another one than the fixture's.
    repository, tag = image.split(":")
    image_id = bots.engine.api.commit(calls.create(bot_id, image=image), repository, f"{tag}-2")["Id"]
    calls.remove(bot_id)
    calls.create(bot_id, image=image_id)
    bots.engine.images.remove(image_id, force=True)
    with fails_with("FAILED_PRECONDITION", "CONFIG_NOT_REPRODUCIBLE") as caught:
        read_config(observer, bot_id)
    assert "Image" == caught[0].metadata["fields"]
    assert image_id in caught[0].message


def test_a_container_without_init_is_read_back(calls: Calls, observer: ContainerObserverStub, bots: Bots) -> None:
    """A create makes one so that the engine itself rejects the start of a missing program."""
    bot_id = bots.new()
    calls.create(bot_id, "no-such-program")
    assert bots.inspect(bot_id)["HostConfig"]["Init"] is False
    assert ["no-such-program"] == read_config(observer, bot_id).config.command


@pytest.fixture
def make_by_hand(engine: docker.DockerClient, bots: Bots, test_image: str) -> MakeByHand:
    """Makes a container of a bot with the docker SDK and the service's labels."""

    def make(bot_id: str, **how: Any) -> str:
        labels = {"botmaker.managed": "true", "botmaker.bot-id": bot_id}
        return engine.containers.create(test_image, FOREVER, name=container_name(bot_id), labels=labels, **how).id

    return make


@pytest.mark.parametrize(
    ("how", "fields"),
    [
        # As BotMaker itself makes them.
        (
            {"volumes": ["/srv/secrets:/run/secrets:ro"], "restart_policy": {"Name": "unless-stopped"}},
            {"HostConfig.Binds", "HostConfig.CapDrop", "HostConfig.LogConfig", "HostConfig.SecurityOpt"},
        ),
        ({"privileged": True, "user": "node"}, {"HostConfig.Privileged", "Config.User", "HostConfig.RestartPolicy"}),
        ({"network_mode": "host"}, {"config.network"}),
        ({"environment": {"not.a.name": "x"}}, {"config.environment"}),
    ],
)
def test_a_container_that_was_made_by_hand_is_refused_with_the_settings_that_no_create_gives(
    observer: ContainerObserverStub, bots: Bots, make_by_hand: MakeByHand, how: dict[str, Any], fields: set[str]
) -> None:
    bot_id = bots.new()
    container_id = make_by_hand(bot_id, **how)
    with fails_with("FAILED_PRECONDITION", "CONFIG_NOT_REPRODUCIBLE") as caught:
        read_config(observer, bot_id)
    assert fields <= set(caught[0].metadata["fields"].split(","))
    assert all(field in caught[0].message for field in fields)
    assert container_id == caught[0].metadata["container_id"]


def test_a_second_network_that_a_container_was_connected_to_is_named(
    calls: Calls, observer: ContainerObserverStub, bots: Bots, network: str
) -> None:
    bot_id = bots.new()
    container_id = calls.run(bot_id, *FOREVER)
    read_config(observer, bot_id)
    bots.engine.networks.get(network).connect(container_id)
    with fails_with("FAILED_PRECONDITION", "CONFIG_NOT_REPRODUCIBLE") as caught:
        read_config(observer, bot_id)
    assert "NetworkSettings.Networks" == caught[0].metadata["fields"]
