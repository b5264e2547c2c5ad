"""The specification of a bot's service, what a swarm cannot keep, and the way back to the configuration."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from container_manager.backends.swarm import placement, records, service_spec
from container_manager.backends.swarm.config_from_service import definition_of
from container_manager.backends.swarm.privileges import check_privileges
from container_manager.backends.swarm.secret_set import reference
from container_manager.backends.swarm.secrets import MAX_SECRETS
from container_manager.backends.swarm.service_spec import MOST_BYTES, Weaker, refuse_oversized, refuse_weaker
from container_manager.bot_directories import BotUser
from container_manager.errors import (
    ConfigNotReproducibleError,
    EngineUnavailableError,
    InvalidArgumentError,
    InvalidConfigError,
    NotSupportedByBackendError,
)
from container_manager.model import ContainerConfig, HealthCheck, PortBinding, Protocol, ResourceLimits
from container_manager.validation import check_create
from tests.unit.swarm_documents import BOT, DIGEST, IMAGE, service, spec

Json = dict[str, Any]

FULL = ContainerConfig(
    image=IMAGE,
    ai_provider="anthropic",
    ai_model="claude",
    channel_type="telegram",
    environment={"TZ": "UTC", "PAIR": "a=b"},
    ports=(PortBinding(80, 8080, "0.0.0.0"), PortBinding(53, 0, "0.0.0.0", Protocol.UDP)),
    network="bots",
    extra_hosts={"db": "10.0.0.1"},
    command=("node", "-e", ""),
    resources=ResourceLimits(2**30, 500_000_000, 64),
    health_check=HealthCheck(("node", "health.js"), 30, 5, 1, 3),
    hostname="ada",
    labels={"team": "blue"},
)
NETWORKS = {"net1": "bots", "net0": "bridge"}


def stored(specification: Json) -> Json:
    """A specification as the API gives it back: networks by their ids, and without what is not set."""
    found = copy.deepcopy(specification)
    found["TaskTemplate"]["Networks"] = [
        {"Target": {name: key for key, name in NETWORKS.items()}[each["Target"]]}
        for each in found["TaskTemplate"]["Networks"]
    ]
    found["TaskTemplate"] |= {"ForceUpdate": 0, "Runtime": "container"}
    return found


def test_a_bots_service_has_every_setting_of_the_product() -> None:
    made = spec()
    template = made["TaskTemplate"]
    container = template["ContainerSpec"]
    assert f"botmaker-{BOT}" == made["Name"]
    assert {"botmaker.managed": "true", "botmaker.bot-id": BOT}.items() <= made["Labels"].items()
    assert {"botmaker.managed": "true", "botmaker.bot-id": BOT} == container["Labels"]
    assert {"Replicated": {"Replicas": 0}} == made["Mode"]
    assert f"{IMAGE}@{DIGEST}" == container["Image"]
    assert (True, ["ALL"], {"NoNewPrivileges": True}) == (
        container["Init"],
        container["CapabilityDrop"],
        container["Privileges"],
    )
    assert BOT == container["Hostname"]
    assert [{"Target": "bridge"}] == template["Networks"]
    assert {} == template["Resources"]["Limits"]
    assert "Healthcheck" not in container
    assert {"Name": "json-file", "Options": {"max-size": "10m", "max-file": "3"}} == template["LogDriver"]
    assert ("any", 5_000_000_000) == (template["RestartPolicy"]["Condition"], template["RestartPolicy"]["Delay"])
    # An update may never run two containers of a bot.
    assert "stop-first" == made["UpdateConfig"]["Order"]


@pytest.mark.parametrize("config", [FULL, ContainerConfig(image=IMAGE)], ids=["full", "empty"])
def test_a_configuration_comes_back_as_it_was(config: ContainerConfig) -> None:
    definition = definition_of(service(stored(spec(config))), NETWORKS)
    assert config == definition.config
    assert ("service1", DIGEST) == (definition.container_id, definition.image_id)


@given(
    environment=st.dictionaries(st.from_regex(r"[A-Z_]{1,8}", fullmatch=True), st.text('a=\n\u00e9{}"', max_size=8)),
    command=st.lists(st.text("ab -$\n", min_size=1, max_size=8), max_size=3).map(tuple),
    labels=st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.text("ab =", max_size=8), max_size=3),
)
def test_any_configuration_comes_back(
    environment: dict[str, str], command: tuple[str, ...], labels: dict[str, str]
) -> None:
    config = ContainerConfig(image=IMAGE, environment=environment, command=command, labels=labels)
    assume(not refused(config))
    assert config == definition_of(service(stored(spec(config))), NETWORKS).config


def test_a_service_whose_variables_a_hand_has_made_templates_of_is_not_taken_for_one_of_ours() -> None:
    changed = stored(spec())
    changed["TaskTemplate"]["ContainerSpec"]["Env"].append("NODE={{.Node.Hostname}}")
    with pytest.raises(ConfigNotReproducibleError, match=r"ContainerSpec\.Env"):
        definition_of(service(changed), NETWORKS)


def refused(config: ContainerConfig) -> bool:
    try:
        check_create("", config)
    except InvalidArgumentError:
        return True
    return False


@pytest.mark.parametrize(
    "changed",
    [
        lambda made: made["TaskTemplate"]["ContainerSpec"].update(User="0"),
        lambda made: made["TaskTemplate"]["ContainerSpec"].update(CapabilityDrop=[]),
        lambda made: made["TaskTemplate"]["ContainerSpec"].update(Command=["/bin/other"]),
        lambda made: made["TaskTemplate"].update(RestartPolicy={"Condition": "none"}),
        lambda made: made["TaskTemplate"].update(LogDriver={"Name": "none"}),
        lambda made: made["EndpointSpec"].update(Mode="vip"),
    ],
)
def test_a_service_that_was_changed_by_hand_is_refused_with_the_setting(changed: Any) -> None:
    made = stored(spec(FULL))
    changed(made)
    with pytest.raises(ConfigNotReproducibleError) as caught:
        definition_of(service(made), NETWORKS)
    assert "TaskTemplate" in caught.value.metadata["fields"] or "Spec.Endpoint" in caught.value.metadata["fields"]


def test_starts_stops_counts_and_secrets_change_no_configuration() -> None:
    made = stored(spec(FULL, secrets=[{"SecretID": "s", "SecretName": "n", "File": {"Name": "A"}}]))
    made = records.stopped(records.started(made, 5), records.Run(exit_code=1))
    assert FULL == definition_of(service(made), NETWORKS).config


@pytest.mark.parametrize(
    ("config", "field", "weaker"),
    [
        (ContainerConfig(network="none"), "config.network", None),
        (ContainerConfig(ports=(PortBinding(80),)), "config.ports[0].host_ip", Weaker.HOST_ADDRESS),
        (
            ContainerConfig(ports=(PortBinding(80, host_ip="0.0.0.0"), PortBinding(81, host_ip="10.0.0.1"))),
            "config.ports[1].host_ip",
            Weaker.HOST_ADDRESS,
        ),
        (ContainerConfig(resources=ResourceLimits(2**30)), "config.resources.memory_bytes", Weaker.SWAP),
    ],
)
def test_what_a_swarm_cannot_keep_is_refused_with_its_field_unless_the_operator_accepts_it(
    config: ContainerConfig, field: str, weaker: Weaker | None
) -> None:
    others = set(Weaker) - {weaker}
    with pytest.raises(NotSupportedByBackendError) as caught:
        refuse_weaker(config, others)
    assert {"backend": "swarm", "field": field} == caught.value.metadata
    if weaker is None:
        with pytest.raises(NotSupportedByBackendError):
            refuse_weaker(config, set(Weaker))
    else:
        assert weaker.value in str(caught.value)
        refuse_weaker(config, {weaker})


@pytest.mark.parametrize(
    ("version", "keeps"),
    [("20.10.24+dfsg1", False), ("24.0.9", False), ("", False), ("25.0.0", True), ("28.5.2", True)],
)
def test_a_node_that_may_let_bots_gain_privileges_is_refused_unless_the_operator_accepts_it(
    version: str, keeps: bool
) -> None:
    """No field of a request is the reason."""
    nodes = [
        {"Description": {"Hostname": name, "Engine": {"EngineVersion": engine}}}
        for name, engine in (("new", "28.5.2"), ("old", version))
    ]
    check_privileges(nodes, {Weaker.NO_NEW_PRIVILEGES})
    if keeps:
        check_privileges(nodes, ())
        return
    with pytest.raises(NotSupportedByBackendError, match="--allow-weaker no-new-privileges") as caught:
        check_privileges(nodes, set(Weaker) - {Weaker.NO_NEW_PRIVILEGES})
    assert {"backend": "swarm", "node": "old"} == caught.value.metadata


HOSTS = {f"{number:0250}": "10.0.0.1" for number in range(1_000)}


def longest(count: int) -> tuple[str, ...]:
    return ("x" * 100_000,) * count


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (ContainerConfig(command=longest(6)), None),
        (ContainerConfig(command=longest(7)), "config.command"),
        (
            ContainerConfig(command=longest(3), environment={"A": "x" * 100_000, "B": "x" * 300_000}),
            "config.environment",
        ),
        (ContainerConfig(environment={"A": "{{" * 100_000}), "config.environment"),
        (ContainerConfig(environment={"A": "\u00e9" * 310_000}), "config.environment"),
        (ContainerConfig(command=longest(3), health_check=HealthCheck(longest(4))), "config.health_check"),
        (ContainerConfig(command=longest(2), extra_hosts=HOSTS), None),
        (ContainerConfig(command=longest(2), ai_model="x" * 200_000, extra_hosts=HOSTS), "config.extra_hosts"),
    ],
)
def test_a_bot_that_a_swarm_could_create_but_not_start_is_refused_with_its_largest_field(
    config: ContainerConfig, field: str | None
) -> None:
    if field is None:
        refuse_oversized(BOT, config)
        return
    with pytest.raises(InvalidConfigError) as caught:
        refuse_oversized(BOT, config)
    assert [field] == [each.field for each in caught.value.violations]
    assert str(MOST_BYTES) in str(caught.value)


def test_the_largest_bot_leaves_room_for_the_most_secrets_and_for_records() -> None:
    """A change has the service's old and new specification, and 1.5 MiB at most."""
    content = {"ID": "i" * 25, "Spec": {"Name": f"botmaker-{BOT}-{'f' * 16}"}}
    names = (f"{number:0128}" for number in range(MAX_SECRETS))
    secrets = [reference(name, content, BotUser(2**32 - 2, 2**32 - 2)) for name in names]
    run = records.Run(255, 2**62, 2**62, "x" * 5_000, 1_000_000, "n" * 63)
    full = records.stopped(records.started(spec(secrets=secrets), 2**62, "f" * 32), run, ["n" * 25] * 5)
    most = MOST_BYTES + service_spec._size(full) - service_spec._size(spec())
    assert most < 1.5 * 2**20 / 2


def able(node_id: str, role: str = "worker", state: str = "ready", availability: str = "active") -> Json:
    return {
        "ID": node_id,
        "Spec": {"Role": role, "Availability": availability},
        "Status": {"State": state},
    }


def chosen(nodes: list[Json], services: list[Json]) -> str:
    with placement.NodeChoice().node_for(BOT, nodes, lambda: services) as node_id:
        return node_id


def test_a_pinned_bot_goes_to_a_worker_that_takes_bots_and_has_the_fewest() -> None:
    """To any of several: services on other managers choose at the same time."""
    nodes = [able("a", "manager"), able("b", state="down"), able("c", availability="drain"), able("d"), able("e")]
    assert {"d", "e"} == {chosen(nodes, []) for _ in range(100)}
    placed = placement.pinned(BOT, "/state", "d")
    assert ["node.id==d"] == placed.constraints
    (mount,) = placed.mounts
    assert ("volume", f"botmaker-{BOT}", "/state") == (mount["Type"], mount["Source"], mount["Target"])
    assert {"e"} == {chosen(nodes, [service(spec(placement=placed))]) for _ in range(20)}


def test_a_pinned_bot_that_is_being_created_and_is_listed_already_counts_once() -> None:
    nodes = [able("a"), able("b")]
    choice = placement.NodeChoice()
    with choice.node_for(BOT, nodes, list) as first:
        other = ({"a", "b"} - {first}).pop()
        others = service(spec(placement=placement.pinned("", "/state", other)))
        others["Spec"]["Name"] = "botmaker-other"
        services = [service(spec(placement=placement.pinned(BOT, "/state", first))), others]
        seen = set()
        for _ in range(100):
            with choice.node_for("third", nodes, lambda: services) as node_id:
                seen.add(node_id)
    assert {"a", "b"} == seen


def test_a_pinned_bot_is_refused_while_no_node_takes_bots() -> None:
    with pytest.raises(EngineUnavailableError):
        chosen([able("b", state="down")], [])


@pytest.mark.parametrize("state", ["ready", "down"])
def test_a_pinned_bot_that_is_created_again_goes_to_the_node_that_has_its_state(state: str) -> None:
    nodes = [able("a"), able("b", state=state, availability="drain")]
    nodes[1]["Spec"]["Labels"] = {f"botmaker.state.{BOT}": "true", "zone": "1"}
    assert "b" == chosen(nodes, [])


def test_a_floating_bot_has_its_state_on_storage_that_all_nodes_share() -> None:
    placed = placement.floating("/shared/b", "/state")
    assert () == tuple(placed.constraints)
    assert [{"Type": "bind", "Source": "/shared/b", "Target": "/state"}] == list(placed.mounts)
    assert [] == list(placement.floating(None, "/state").mounts)
