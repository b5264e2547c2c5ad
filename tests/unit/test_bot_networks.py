"""Networks of bots' own: which subnet they get, and what happens when the engine refuses."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from ipaddress import IPv4Network
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_manager.backends import given_up_creates
from container_manager.backends.docker import subnets
from container_manager.backends.docker.bot_networks import requested, resolved
from container_manager.backends.docker.docker_service import DockerService
from container_manager.backends.docker.subnets import free_subnets, local_routes
from container_manager.errors import (
    CapacityExceededError,
    ContainerManagerError,
    EngineUnavailableError,
    NameInUseUnmanagedError,
)
from container_manager.model import BotNetwork, ContainerConfig
from tests.support.fake_engine import NO_CONTENT, Answer, Cut, FakeEngine, Hang, Json, Request, error
from tests.support.threads import started_since
from tests.support.waiting import wait_until
from tests.unit.creating import ABSENT, BY_NAME, CREATE, let_create_succeed, refused
from tests.unit.documents import BOT, ID, LABELS, NAME, exited, inspected

LIST = ("GET", "/networks")
MAKE = ("POST", "/networks/create")
REMOVE = ("DELETE", "/networks/*")
POOL = IPv4Network("10.3.0.0/24")
OVERLAP = error(403, "Pool overlaps with other one on this address space")
OWN = {"Id": "n1", "Name": NAME, "Labels": LABELS, "Driver": "bridge"}
MakeService = Callable[..., DockerService]
_networks = st.builds(
    lambda address, bits: IPv4Network((address, bits), strict=False),
    st.integers(int(POOL[0]) - 600, int(POOL[-1]) + 600),
    st.integers(20, 32),
)


@given(st.lists(_networks, max_size=12))
def test_a_free_subnet_is_every_one_of_the_pool_that_overlaps_nothing(taken: list[IPv4Network]) -> None:
    expected = [each for each in POOL.subnets(new_prefix=28) if not any(map(each.overlaps, taken))]
    assert expected == list(free_subnets(POOL, taken))


def test_the_default_pool_is_enough_for_thousands(make_service: MakeService) -> None:
    pool = make_service()._lifecycle._networks._subnets._pool
    assert 4096 == sum(1 for _ in free_subnets(pool, []))


def test_the_routes_of_this_machine_are_read_without_the_default_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT"]
    lines += ["eth0 00000000 010200C0 0003 0 0 0 00000000 0 0 0", "vpn0 0000030A 00000000 0001 0 0 0 0000FFFF 0 0 0"]
    (tmp_path / "route").write_text("\n".join(lines))
    monkeypatch.setattr(subnets, "_ROUTES", tmp_path / "route")
    monkeypatch.setattr(subnets.sys, "byteorder", "little")
    assert [IPv4Network("10.3.0.0/16")] == local_routes()
    monkeypatch.setattr(subnets, "_ROUTES", tmp_path / "none")
    assert [] == local_routes()


@pytest.fixture
def engine(engine: FakeEngine) -> FakeEngine:
    """An engine on which everything succeeds, unless a test overrides an answer."""
    let_create_succeed(engine).on(*LIST, Json([]))
    engine.on(*MAKE, Json({"Id": "n1"}, 201))
    engine.on(*REMOVE, NO_CONTENT)
    return engine


@pytest.fixture
def isolated(make_service: MakeService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> DockerService:
    monkeypatch.setattr(subnets, "_ROUTES", tmp_path / "none")
    return make_service(bot_network=BotNetwork.ISOLATED, bot_network_pool=POOL)


def asked_for(engine: FakeEngine) -> list[str]:
    """The subnets in requests for a network."""
    return [request.body["IPAM"]["Config"][0]["Subnet"] for request in engine.seen(*MAKE)]


def test_the_default_costs_no_call(engine: FakeEngine, make_service: MakeService) -> None:
    make_service().create_container(BOT)
    make_service().remove_container(BOT)
    assert [] == engine.seen("*", "/networks*")


def test_a_bots_network_has_its_name_its_labels_and_the_first_subnet_that_nothing_has(
    engine: FakeEngine, isolated: DockerService
) -> None:
    taken = [{"IPAM": {"Config": [{"Subnet": "10.3.0.0/27"}, {"Subnet": "fd00::/64"}]}}, {"IPAM": {"Config": None}}]
    engine.on(*LIST, lambda request: Json([] if "filters" in request.query else taken))
    isolated.create_container(BOT)
    (request,) = engine.seen(*MAKE)
    assert (NAME, LABELS, "10.3.0.32/28") == (request.body["Name"], request.body["Labels"], asked_for(engine)[0])
    (request,) = engine.seen(*CREATE)
    assert NAME == request.body["HostConfig"]["NetworkMode"]
    assert [] == engine.seen(*REMOVE)


def test_a_subnet_that_was_taken_meanwhile_is_skipped_until_none_is_left(
    engine: FakeEngine, isolated: DockerService
) -> None:
    engine.on(*MAKE, OVERLAP, OVERLAP, Json({"Id": "n1"}, 201))
    isolated.create_container(BOT)
    assert ["10.3.0.0/28", "10.3.0.16/28", "10.3.0.32/28"] == asked_for(engine)
    engine.on(*MAKE, OVERLAP)
    failure = refused(isolated, CapacityExceededError)
    assert "--bot-network-pool" in str(failure)
    assert [str(each) for each in islice(POOL.subnets(new_prefix=28), 2, None)] == asked_for(engine)[3:]
    assert 1 == len(engine.seen(*CREATE))


@pytest.mark.parametrize("has_container", [False, True])
def test_the_network_of_a_create_that_fails_goes_unless_a_container_has_it(
    engine: FakeEngine, isolated: DockerService, *, has_container: bool
) -> None:
    engine.on(*LIST, Json([]), Json([]), Json([OWN]))
    engine.on(*CREATE, error(500, "no"))
    using = [{"Id": ID}] if has_container else []
    engine.on("GET", "/containers/json", lambda request: Json(using if "network" in request.query["filters"] else []))
    refused(isolated, EngineUnavailableError)
    assert ([] if has_container else ["/networks/n1"]) == [request.path for request in engine.seen(*REMOVE)]


def test_a_foreign_network_of_that_name_is_refused_and_stays(engine: FakeEngine, isolated: DockerService) -> None:
    foreign = {**OWN, "Labels": {"botmaker.bot-id": BOT}}
    engine.on(*LIST, lambda request: Json([foreign] if "filters" in request.query else []))
    engine.on(*MAKE, error(409, f"network with name {NAME} already exists"))
    engine.on("GET", f"/networks/{NAME}", Json(foreign))
    refused(isolated, NameInUseUnmanagedError)
    isolated.remove_container(BOT)
    assert [] == engine.seen(*REMOVE) + engine.seen(*CREATE)


@pytest.mark.parametrize("network_mode", [NAME, "bridge"])
def test_after_a_change_of_the_default_a_removal_still_takes_an_own_network_along(
    engine: FakeEngine, make_service: MakeService, network_mode: str
) -> None:
    document = inspected(exited())
    document["HostConfig"] = {"NetworkMode": network_mode}
    engine.on(*BY_NAME, Json(document), ABSENT)
    engine.on(*LIST, Json([OWN]))
    make_service().remove_container(BOT)
    assert (network_mode == NAME) == bool(engine.seen(*REMOVE))


def test_a_network_that_the_engine_does_not_remove_fails_no_removal(
    engine: FakeEngine, isolated: DockerService, caplog: pytest.LogCaptureFixture
) -> None:
    engine.on(*BY_NAME, Json(inspected(exited())), ABSENT)
    engine.on(*LIST, Json([OWN]))
    engine.on(*REMOVE, error(403, "has active endpoints"), error(500, "no"))
    isolated.remove_container(BOT)
    assert "" == caplog.text
    isolated.remove_container(BOT)
    assert "is left for the next start of the service" in caplog.text


def test_what_was_left_is_removed_once_the_engine_answers_and_nothing_else(
    engine: FakeEngine, isolated: DockerService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("container_manager.backends.docker.bot_networks._PAUSE_SECONDS", 0.01)

    def containers(request: Request) -> Json:
        return Json([{"Id": ID}] if "used" in json.loads(request.query["filters"])["network"][0] else [])

    def network(number: str, **changes: Any) -> dict[str, Any]:
        return {**OWN, "Id": number, **changes}

    used = {"Name": "botmaker-used", "Labels": {**LABELS, "botmaker.bot-id": "used"}}
    kinds = [network("left"), network("used", **used), network("named", Name="other"), network("bare", Labels=None)]
    engine.on(*LIST, error(500, "starting"), Json(kinds))
    engine.on("GET", "/containers/json", containers)
    isolated._lifecycle.remove_leftovers()
    assert ["/networks/left"] == [request.path for request in engine.seen(*REMOVE)]


@pytest.mark.parametrize(
    ("answer", "is_late"),
    [
        (Hang(), True),
        (Cut(), True),
        (error(502, "bad gateway"), True),
        (error(504, "gateway time-out"), True),
        (error(500, "no"), False),
        (error(403, "denied"), False),
    ],
    ids=str,
)
def test_a_network_that_the_engine_makes_after_its_create_was_given_up_is_removed(
    engine: FakeEngine,
    make_service: MakeService,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    answer: Answer,
    *,
    is_late: bool,
) -> None:
    """After the search for a container. A create that the engine has refused is not searched for."""
    monkeypatch.setattr(subnets, "_ROUTES", tmp_path / "none")
    monkeypatch.setattr(given_up_creates, "SEARCH_SECONDS", 0.2)
    monkeypatch.setattr(given_up_creates, "FIRST_PAUSE_SECONDS", 0.05)
    service = make_service(bot_network=BotNetwork.ISOLATED, bot_network_pool=POOL, engine_timeout_seconds=0.4)
    before = set(threading.enumerate())
    engine.on(*MAKE, answer)
    engine.on("GET", "/containers/json", Json([]))
    with pytest.raises(ContainerManagerError):
        service.create_container(BOT)
    engine.on(*LIST, Json([OWN]))
    wait_until(lambda: "creates given up" not in started_since(before), "the search has ended")
    assert (["/networks/n1"] if is_late else []) == [request.path for request in engine.seen(*REMOVE)]
    assert [] == engine.seen(*CREATE)


def test_the_search_for_what_was_left_ends_with_the_service_and_where_it_is_refused(
    engine: FakeEngine, make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("container_manager.backends.docker.bot_networks._PAUSE_SECONDS", 0.01)
    service = make_service()
    engine.on(*LIST, error(403, "this proxy passes no networks on"))
    service._lifecycle.remove_leftovers()
    engine.on(*LIST, error(500, "never"))
    asked = len(engine.seen(*LIST))
    search = threading.Thread(target=service._lifecycle.remove_leftovers, daemon=True)
    search.start()
    wait_until(lambda: len(engine.seen(*LIST)) > asked + 2, "it asks again and again")
    service.close()
    search.join(30)
    assert not search.is_alive()


def test_a_configuration_names_the_network_only_if_it_is_not_the_default() -> None:
    seen = {}
    for default in BotNetwork:
        seen[default] = [requested(BOT, ContainerConfig(network=name), default).network for name in ("", NAME, "x")]
        for name in seen[default]:
            has = resolved(BOT, ContainerConfig(network=name), default)
            assert name == requested(BOT, has, default).network
    assert {BotNetwork.BRIDGE: ["", NAME, "x"], BotNetwork.ISOLATED: ["bridge", "", "x"]} == seen
