"""The request to create a container: the contract's golden table, field by field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from container_manager.backends.docker.spec import container_body, parse_port_key
from container_manager.model import ContainerConfig, HealthCheck, PortBinding, Protocol, ResourceLimits, container_name

BOT = "0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11"
SECRETS = {"Type": "bind", "Source": f"/srv/secrets/{BOT}", "Target": "/run/secrets", "ReadOnly": True}
STATE: dict[str, Any] = {
    "Type": "bind",
    "Source": f"/srv/state/{BOT}",
    "Target": "/home/node/.openclaw",
    "ReadOnly": False,
}

LABELS = {"botmaker.managed": "true", "botmaker.bot-id": BOT, "botmaker.create-id": "c7e1"}


def body(
    config: ContainerConfig | None = None,
    *,
    state: bool = False,
    state_target: str = STATE["Target"],
    request_id: str = "",
) -> dict[str, Any]:
    return container_body(
        BOT,
        config or ContainerConfig(),
        image="botmaker/openclaw:1",
        secrets_source=SECRETS["Source"],
        state_source=STATE["Source"] if state else None,
        state_target=state_target,
        request_id=request_id,
        create_id="c7e1",
        stop_seconds=10,
    )


def test_the_least_container() -> None:
    expected = {
        "Image": "botmaker/openclaw:1",
        "Hostname": BOT,
        "Env": [f"BOT_ID={BOT}"],
        "Labels": LABELS,
        "ExposedPorts": {},
        "StopTimeout": 10,
        "HostConfig": {
            "Mounts": [SECRETS],
            "NetworkMode": "bridge",
            "PortBindings": {},
            "ExtraHosts": [],
            "RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0},
            "Init": True,
            "Privileged": False,
            "CgroupnsMode": "private",
            "IpcMode": "private",
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
        },
    }
    assert expected == body()


FULL = ContainerConfig(
    image="ignored: the caller of container_body has resolved it",
    ai_provider="anthropic",
    ai_model="claude",
    channel_type="telegram",
    environment={"TZ": "UTC", "EMPTY": "", "EQ": "a=b"},
    ports=(
        PortBinding(18789, 8080),
        PortBinding(18789, 0, "::1"),
        PortBinding(53, 5353, "0.0.0.0", Protocol.UDP),
    ),
    network="bots",
    extra_hosts={"host.docker.internal": "host-gateway", "db": "10.0.0.1", "six": "fd00::1"},
    command=("node", "--version"),
    resources=ResourceLimits(512 * 1024**2, 1_500_000_000, 256),
    health_check=HealthCheck(("node", "/app/health.js"), 30, 0.25, 60.0000001, 5),
    hostname="anna",
    labels={"team": "blue"},
)


def test_the_fullest_container() -> None:
    expected = {
        "Image": "botmaker/openclaw:1",
        "Env": [
            f"BOT_ID={BOT}",
            "AI_PROVIDER=anthropic",
            "AI_MODEL=claude",
            "CHANNEL_TYPE=telegram",
            "TZ=UTC",
            "EMPTY=",
            "EQ=a=b",
        ],
        "Hostname": "anna",
        "Labels": {**LABELS, "team": "blue", "botmaker.request-id": "wish-1", "botmaker.bot-hostname": "anna"},
        "ExposedPorts": {"18789/tcp": {}, "53/udp": {}},
        "StopTimeout": 10,
        "Cmd": ["node", "--version"],
        "Healthcheck": {
            "Test": ["CMD", "node", "/app/health.js"],
            "Interval": 30_000_000_000,
            "Timeout": 250_000_000,
            "StartPeriod": 60_000_000_100,
            "Retries": 5,
        },
        "HostConfig": {
            "Mounts": [SECRETS, STATE],
            "NetworkMode": "bots",
            "PortBindings": {
                "18789/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}, {"HostIp": "::1", "HostPort": ""}],
                "53/udp": [{"HostIp": "0.0.0.0", "HostPort": "5353"}],
            },
            "ExtraHosts": ["host.docker.internal:host-gateway", "db:10.0.0.1", "six:fd00::1"],
            "RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0},
            "Init": True,
            "Privileged": False,
            "CgroupnsMode": "private",
            "IpcMode": "private",
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
            "Memory": 512 * 1024**2,
            "MemorySwap": 512 * 1024**2,
            "NanoCpus": 1_500_000_000,
            "PidsLimit": 256,
        },
    }
    assert expected == body(FULL, state=True, request_id="wish-1")


def test_the_state_appears_where_the_operator_says() -> None:
    assert [SECRETS, STATE | {"Target": "/app/botdata"}] == body(state=True, state_target="/app/botdata")["HostConfig"][
        "Mounts"
    ]


def test_the_host_name_is_the_same_whenever_the_bots_container_is_made_anew() -> None:
    assert BOT == body()["Hostname"] == body(request_id="another")["Hostname"]


def test_a_health_check_without_times_has_the_engines_defaults() -> None:
    check = body(ContainerConfig(health_check=HealthCheck(("true",))))["Healthcheck"]
    assert {"Test": ["CMD", "true"], "Interval": 0, "Timeout": 0, "StartPeriod": 0, "Retries": 0} == check
    assert "Healthcheck" not in body()


def test_the_services_own_labels_win() -> None:
    labels = body(ContainerConfig(labels={"botmaker.managed": "false", "botmaker.bot-id": "x"}))["Labels"]
    assert LABELS == labels


def test_the_name_is_the_bots() -> None:
    assert f"botmaker-{BOT}" == container_name(BOT)


@pytest.mark.parametrize(
    ("config", "variable"),
    [
        (ContainerConfig(ai_provider="openai"), "AI_PROVIDER=openai"),
        (ContainerConfig(ai_model="gpt"), "AI_MODEL=gpt"),
        (ContainerConfig(channel_type="discord"), "CHANNEL_TYPE=discord"),
    ],
)
def test_an_empty_typed_field_is_left_out(config: ContainerConfig, variable: str) -> None:
    assert [f"BOT_ID={BOT}", variable] == body(config)["Env"]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (ResourceLimits(), {}),
        (ResourceLimits(memory_bytes=10**7), {"Memory": 10**7, "MemorySwap": 10**7}),
        (ResourceLimits(nano_cpus=5), {"NanoCpus": 5}),
        (ResourceLimits(pids_limit=7), {"PidsLimit": 7}),
    ],
)
def test_only_limits_that_are_set_are_sent(limits: ResourceLimits, expected: dict[str, int]) -> None:
    host_config = body(ContainerConfig(resources=limits))["HostConfig"]
    names = ("Memory", "MemorySwap", "NanoCpus", "PidsLimit")
    assert expected == {name: host_config[name] for name in names if name in host_config}


@pytest.mark.parametrize("network", ["none", "bridge", "default", "bots"])
def test_the_network_is_the_callers(network: str) -> None:
    assert network == body(ContainerConfig(network=network))["HostConfig"]["NetworkMode"]


@pytest.mark.parametrize("config", [ContainerConfig(), FULL])
def test_there_are_no_binds_privileges_or_host_namespaces(config: ContainerConfig) -> None:
    """For a bind string, the engine would create a missing source, owned by root (moby/moby#13121)."""
    made = body(config, state=True)
    host_config = made["HostConfig"]
    unwanted = {
        "Binds",
        "PidMode",
        "UTSMode",
        "UsernsMode",
        "CapAdd",
        "Devices",
        "VolumesFrom",
        "AutoRemove",
    }
    assert set() == unwanted & (set(host_config) | set(made))
    assert host_config["Privileged"] is False
    assert ("private", "private") == (host_config["CgroupnsMode"], host_config["IpcMode"])
    assert {"bind"} == {mount["Type"] for mount in host_config["Mounts"]}


def test_the_callers_config_is_not_changed_and_the_body_is_json() -> None:
    before = repr(FULL)
    first, second = body(FULL), body(FULL)
    first["HostConfig"]["Mounts"].clear()
    first["Labels"].clear()
    assert before == repr(FULL)
    assert json.loads(json.dumps(second)) == body(FULL)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("80/tcp", (80, Protocol.TCP)),
        ("53/udp", (53, Protocol.UDP)),
        ("9/sctp", (9, Protocol.SCTP)),
        ("80", (80, Protocol.TCP)),
    ],
)
def test_a_port_key_is_read_as_the_engine_writes_it(key: str, expected: tuple[int, Protocol]) -> None:
    assert expected == parse_port_key(key)
