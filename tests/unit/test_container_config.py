"""A container's configuration read back from the engine's documents: the inverse of the specification."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_manager.backends.docker.config_from_inspect import config_from_inspect
from container_manager.backends.docker.config_reader import differences
from container_manager.backends.docker.spec import container_body
from container_manager.model import (
    ContainerConfig,
    HealthCheck,
    PortBinding,
    Protocol,
    ResourceLimits,
    container_name,
)
from tests.support.engine_documents import created

BOT = "0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11"
Json = dict[str, Any]

IMAGE: Json = {
    "Cmd": ["node", "index.js"],
    "Entrypoint": ["tini", "--"],
    "Env": ["PATH=/usr/bin", "NODE_VERSION=24", "TZ=UTC", "AI_MODEL=small"],
    "ExposedPorts": {"18789/tcp": {}},
    "Healthcheck": {"Test": ["CMD", "node", "health.js"], "Interval": 5 * 10**9, "Retries": 9},
    "Labels": {"team": "red", "botmaker.bot-hostname": "berta"},
    "StopSignal": "SIGINT",
    "User": "node",
    "Volumes": {"/data": {}},
    "WorkingDir": "/home/node",
    # Of the container that the image was made from, and not passed on.
    "Hostname": "5a0c",
    "Tty": True,
}
IMAGES = ({}, IMAGE, dict.fromkeys(IMAGE))
FULL = ContainerConfig(
    image="botmaker/openclaw:1",
    ai_provider="anthropic",
    ai_model="claude",
    channel_type="telegram",
    environment={"TZ": "Europe/Berlin", "EMPTY": "", "EQ": "a=b"},
    ports=(
        PortBinding(53, 5353, "0.0.0.0", Protocol.UDP),
        PortBinding(18789, 8080, "127.0.0.1"),
        PortBinding(18789, 0, "::1"),
    ),
    network="bots",
    extra_hosts={"host.docker.internal": "host-gateway", "six": "fd00::1"},
    command=("node", "--version", ""),
    resources=ResourceLimits(64 << 20, 500_000_000, 64),
    health_check=HealthCheck(("true",), 30, 0.25, 60.0000001, 5),
    hostname="anna",
    labels={"team": "blue", "empty": ""},
)


def body(config: ContainerConfig, **changes: Any) -> Json:
    """The request that makes a container."""
    given = {"request_id": "wish", "create_id": "c7e1", "stop_seconds": 10, "state_target": "/state", **changes}
    return container_body(
        BOT, config, image=config.image, secrets_source=f"/s/{BOT}", state_source=f"/t/{BOT}", **given
    )


def made(config: ContainerConfig, image: Json) -> Json:
    """The engine's document of the bot's container."""
    return created(container_name(BOT), body(config), image)


def different(document: Json, image: Json, **changes: Any) -> list[str]:
    """The settings that a create with the configuration that was read does not give."""
    again = body(config_from_inspect(document, image), **changes)
    return list(differences(document, again, image, "runc"))


def comparable(document: Json) -> Json:
    """Without the order in which a set is shown."""
    found = copy.deepcopy(document)
    found["HostConfig"]["ExtraHosts"].sort()
    found["HostConfig"]["PortBindings"] = dict(sorted(found["HostConfig"]["PortBindings"].items()))
    return found


# Values that the image has as well are likely.
_values = st.sampled_from(["", "UTC", "24", "/usr/bin", "small", "a=b", "ü"])
_names = st.sampled_from(["PATH", "NODE_VERSION", "TZ", "OWN", "OTHER", "Z"])
_nanoseconds = st.sampled_from([0, 10**6, 5 * 10**9, 86_400 * 10**9]) | st.integers(10**6, 86_400 * 10**9)
_seconds = _nanoseconds.map(lambda ns: ns / 1e9)
_ports = st.lists(
    st.builds(
        PortBinding,
        st.integers(1, 65_535) | st.just(18789),
        st.integers(0, 65_535),
        st.sampled_from(["127.0.0.1", "0.0.0.0", "::1"]),
        st.sampled_from(Protocol),
    ),
    max_size=4,
).map(lambda ports: tuple(sorted(ports, key=lambda port: (port.container_port, port.protocol.value))))
CONFIGS = st.builds(
    ContainerConfig,
    image=st.sampled_from(["botmaker/openclaw:1", "a@sha256:" + "0f" * 32, "sha256:" + "ab" * 32]),
    ai_provider=st.sampled_from(["", "anthropic"]),
    ai_model=st.sampled_from(["", "small", "claude"]),
    channel_type=st.sampled_from(["", "telegram"]),
    environment=st.dictionaries(_names, _values, max_size=5),
    ports=_ports,
    network=st.sampled_from(["", "none", "bots"]),
    extra_hosts=st.dictionaries(st.sampled_from("abc"), st.sampled_from(["host-gateway", "10.0.0.1", "fd00::1"])),
    command=st.sampled_from([(), ("node", "index.js"), ("sh", "-c", ""), ("x",)]),
    resources=st.builds(
        ResourceLimits, st.sampled_from([0, 64 << 20]), st.sampled_from([0, 10**9]), st.sampled_from([0, 5])
    ),
    health_check=st.none()
    | st.builds(
        HealthCheck,
        st.sampled_from([("node", "health.js"), ("true",)]),
        _seconds,
        _seconds,
        _seconds,
        st.sampled_from([0, 9, 3]),
    ),
    hostname=st.sampled_from(["", "anna", "berta"]),
    labels=st.dictionaries(st.sampled_from(["team", "own"]), st.sampled_from(["", "red", "blue"])),
)


@given(config=CONFIGS, image=st.sampled_from(IMAGES))
def test_a_container_of_the_configuration_that_was_read_is_the_same(config: ContainerConfig, image: Json) -> None:
    """Whatever the image has as well: the engine shows the same of both containers, variables in the same order."""
    document = made(config, image)
    read = config_from_inspect(document, image)
    again = made(read, image)
    assert comparable(document) == comparable(again)
    assert [] == different(document, image)
    assert read == config_from_inspect(again, image)


@given(config=CONFIGS)
def test_a_configuration_that_has_nothing_of_the_image_is_read_back_as_it_was_given(config: ContainerConfig) -> None:
    assert config == config_from_inspect(made(config, {}), {})


@pytest.mark.parametrize("image", IMAGES, ids=["nothing", "everything", "null"])
def test_every_field_is_read_back(image: Json) -> None:
    default = ContainerConfig()
    assert all(getattr(FULL, name) != getattr(default, name) for name in vars(FULL))
    assert FULL == config_from_inspect(made(FULL, image), image)


def test_the_images_own_is_left_out() -> None:
    least = ContainerConfig(image="botmaker/openclaw:1")
    assert least == config_from_inspect(made(least, IMAGE), IMAGE)


def test_what_equals_the_images_is_left_out() -> None:
    check = HealthCheck(("node", "health.js"), 5, 0, 0, 9)
    config = ContainerConfig(
        image="a:1", command=("node", "index.js"), labels={"team": "red"}, health_check=check, environment={"PATH": ""}
    )
    expected = ContainerConfig(image="a:1", environment={"PATH": ""})
    assert expected == config_from_inspect(made(config, IMAGE), IMAGE)


@pytest.mark.parametrize(
    "environment",
    [
        {"NODE_VERSION": "24"},
        {"TZ": "UTC", "ZERO": "0"},
        {"PATH": "/usr/bin", "ZERO": ""},
    ],
)
def test_a_variable_that_equals_the_images_is_kept_where_the_order_shows_that_it_was_given(
    environment: dict[str, str],
) -> None:
    """An upgrade to an image with another default must not change what the caller has set."""
    config = ContainerConfig(image="a:1", environment=environment)
    assert config == config_from_inspect(made(config, IMAGE), IMAGE)


def test_a_part_of_a_health_check_that_comes_from_the_image_is_left_out() -> None:
    given = HealthCheck(("true",), 0, 2, 0, 0)
    document = made(ContainerConfig(image="a:1", health_check=given), IMAGE)
    assert document["Config"]["Healthcheck"]["Interval"] == 5 * 10**9
    assert given == config_from_inspect(document, IMAGE).health_check


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document["HostConfig"].update(MemorySwappiness=-1, CpuQuota=-1),
        lambda document: document["HostConfig"].update(Binds=[], CapAdd=[], OomKillDisable=None),
        lambda document: document["HostConfig"].update(Init=False),
        lambda document: document["HostConfig"].update(MemorySwap=-1),
        lambda document: document["HostConfig"].update(MaskedPaths=["/proc/new"], ReadonlyPaths=None),
        lambda document: document["HostConfig"].update(Annotations={}, NewSetting="", AnotherOne=None),
        lambda document: document["HostConfig"]["Mounts"][0].update(BindOptions={}),
        lambda document: document["Config"].update(AttachStdout=True, AttachStderr=True),
        lambda document: document["Config"].update(StopTimeout=30),
        lambda document: document["NetworkSettings"]["Networks"]["bots"].update(
            Aliases=[document["Id"][:12], "anna"], DNSNames=["x"], IPAMConfig={}, MacAddress="02:42:ac:11:00:02"
        ),
        # Made before the service had a state root.
        lambda document: document["HostConfig"]["Mounts"].pop(),
        # Made before this label.
        lambda document: document["Config"]["Labels"].pop("botmaker.create-id"),
    ],
)
def test_what_engines_add_or_write_differently_is_no_setting(change: Callable[[Json], object]) -> None:
    document = made(FULL, IMAGE)
    change(document)
    assert [] == different(document, IMAGE)
    assert FULL == config_from_inspect(document, IMAGE)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("HostConfig.AutoRemove", True),
        ("HostConfig.Binds", ["/etc:/host"]),
        ("HostConfig.CapAdd", ["NET_ADMIN"]),
        ("HostConfig.CapDrop", None),
        ("HostConfig.CgroupnsMode", "host"),
        ("HostConfig.CpuShares", 512),
        ("HostConfig.Devices", [{"PathOnHost": "/dev/kvm"}]),
        ("HostConfig.Dns", ["10.0.0.1"]),
        ("HostConfig.ExtraHosts", ["a:10.0.0.1", "a:10.0.0.2"]),
        ("HostConfig.IpcMode", "host"),
        ("HostConfig.LogConfig", {"Type": "journald", "Config": {}}),
        ("HostConfig.MaskedPaths", []),
        ("HostConfig.MemorySwap", 1 << 30),
        ("HostConfig.NewSetting", "something"),
        ("HostConfig.PidMode", "host"),
        ("HostConfig.PortBindings", {"80/tcp": [{"HostIp": "", "HostPort": "80"}]}),
        ("HostConfig.PortBindings", {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8000-8010"}]}),
        ("HostConfig.Privileged", True),
        ("HostConfig.RestartPolicy", {"Name": "no", "MaximumRetryCount": 0}),
        ("HostConfig.Runtime", "kata"),
        ("HostConfig.SecurityOpt", None),
        ("HostConfig.SecurityOpt", ["no-new-privileges", "seccomp=unconfined"]),
        ("HostConfig.Tmpfs", {"/tmp": ""}),
        ("HostConfig.UsernsMode", "host"),
        ("HostConfig.VolumesFrom", ["other"]),
        ("Config.Cmd", None),
        ("Config.Domainname", "example.org"),
        ("Config.Entrypoint", ["sh"]),
        ("Config.Env", ["BOT_ID=" + BOT, "TWICE=1", "TWICE=2"]),
        ("Config.Env", ["BOT_ID=" + BOT, "PATH", "NODE_VERSION=24", "TZ=UTC", "AI_MODEL=small"]),
        ("Config.Env", ["BOT_ID=" + BOT]),
        ("Config.Env", ["BOT_ID=7d1d8f3a-98b2-4a44-8a55-3f0b6a1c2d22"]),
        ("Config.Env", ["BOT_ID=" + BOT, "AI_PROVIDER="]),
        ("Config.ExposedPorts", {"99/tcp": {}}),
        ("Config.Healthcheck", {"Test": ["NONE"]}),
        ("Config.Healthcheck", {"Test": ["CMD-SHELL", "true"]}),
        ("Config.Hostname", "3f4e9c000000"),
        ("Config.Labels", {"botmaker.managed": "true", "botmaker.bot-id": BOT, "botmaker.other": "x"}),
        ("Config.Labels", {"botmaker.managed": "true", "botmaker.bot-id": BOT, "botmaker.bot-hostname": "berta"}),
        ("Config.StopSignal", "SIGKILL"),
        ("Config.Tty", True),
        ("Config.User", "root"),
        ("Config.Volumes", {"/data": {}, "/more": {}}),
        ("Config.WorkingDir", "/"),
        ("NetworkSettings.Networks", {"bots": {}, "more": {}}),
        ("NetworkSettings.Networks", {}),
        ("NetworkSettings.Networks.bots.IPAMConfig", {"IPv4Address": "172.20.0.9"}),
        ("NetworkSettings.Networks.bots.Aliases", ["db"]),
    ],
)
def test_a_setting_that_no_create_gives_is_named(setting: str, value: Any) -> None:
    document = made(replace(FULL, extra_hosts={}, ports=(), environment={}), IMAGE)
    *path, last = setting.split(".")
    place = document
    for name in path:
        place = place[name]
    place[last] = value
    assert setting in different(document, IMAGE)


@pytest.mark.parametrize(
    "mount",
    [
        {"Type": "volume", "Source": "data", "Target": "/data"},
        {
            "Type": "bind",
            "Source": "/s/another",
            "Target": "/run/secrets",
            "ReadOnly": True,
        },
        {"Type": "bind", "Source": f"/s/{BOT}", "Target": "/run/secrets"},
        {
            "Type": "bind",
            "Source": f"/s/{BOT}",
            "Target": "/run/secrets",
            "ReadOnly": True,
            "BindOptions": {"Propagation": "rshared"},
        },
    ],
)
def test_a_mount_that_is_not_the_services_is_named(mount: Json) -> None:
    document = made(FULL, IMAGE)
    document["HostConfig"]["Mounts"].append(mount)
    assert ["HostConfig.Mounts"] == different(document, IMAGE)


@pytest.mark.parametrize("limit", [None, 0, -1])
def test_each_of_the_engines_forms_of_no_limit_is_read_as_none(limit: int | None) -> None:
    document = made(replace(FULL, resources=ResourceLimits()), IMAGE)
    document["HostConfig"].update(PidsLimit=limit, Memory=limit or 0, NanoCpus=limit or 0, MemorySwap=limit)
    assert ResourceLimits() == config_from_inspect(document, IMAGE).resources
    assert [] == different(document, IMAGE)


def test_the_engines_own_default_runtime_is_no_setting() -> None:
    document = made(FULL, IMAGE)
    document["HostConfig"]["Runtime"] = "crun"
    again = body(config_from_inspect(document, IMAGE))
    assert [] == list(differences(document, again, IMAGE, "crun"))
    assert ["HostConfig.Runtime"] == list(differences(document, again, IMAGE, "runc"))


ENGINES_DEFAULTS: Json = {
    "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3", "compress": "true"}},
    "ShmSize": 128 << 20,
    "Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 2048}],
}


@pytest.mark.parametrize("setting", ENGINES_DEFAULTS)
def test_what_the_engines_own_settings_give_to_every_container_is_no_setting(setting: str) -> None:
    """As an engine shows it that has ``log-opts``, ``default-shm-size`` and ``default-ulimits`` in daemon.json."""
    document = made(FULL, IMAGE)
    document["HostConfig"][setting] = ENGINES_DEFAULTS[setting]
    assert [] == different(document, IMAGE)
    by_image = {**IMAGE, "Labels": {**IMAGE["Labels"], "botmaker.create-id": "c7e1"}}
    assert [f"HostConfig.{setting}"] == different(document, by_image)
    del document["Config"]["Labels"]["botmaker.create-id"]
    assert [f"HostConfig.{setting}"] == different(document, IMAGE)


def test_fewer_logs_than_a_create_gives_are_a_setting() -> None:
    document = made(FULL, IMAGE)
    document["HostConfig"]["LogConfig"]["Config"]["max-size"] = "1m"
    assert ["HostConfig.LogConfig"] == different(document, IMAGE)
