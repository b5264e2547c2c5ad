"""Operations on a container that the caller knows: one call to the engine, and a look-up only where it disagrees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from container_manager.backend import Created
from container_manager.backends.docker.lifecycle import DockerLifecycle
from container_manager.backends.docker.status import status_from_inspect
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig
from container_manager.errors import (
    ContainerAlreadyExistsError,
    ContainerNotFoundError,
    InvalidStateError,
    NameInUseUnmanagedError,
    SecretsUnavailableError,
    StartFailedError,
    StateUnavailableError,
)
from container_manager.model import ContainerConfig, ExitReason, PullPolicy
from container_manager.operation import carry_out
from tests.support.fake_engine import NO_CONTENT, FakeEngine, Json, error
from tests.unit.creating import ABSENT, BY_NAME, CREATE, MISSING_IMAGE, TAKEN, let_create_succeed
from tests.unit.documents import BOT, FINISHED, ID, OTHER_BOT, OTHER_ID, STARTED, exited, inspected, running, state

KNOWN = {
    name: status_from_inspect(inspected(engine_state))
    for name, engine_state in {
        "created": state(),
        "running": running(),
        "exited": exited(),
        "dead": state("dead"),
        "removing": state("removing"),
    }.items()
}
REMADE = Json(inspected(running(), container_id=OTHER_ID))
FOREIGN = Json(inspected(running(), container_id=OTHER_ID, labels={}))
VERBS = {"start_container": "start", "stop_container": "stop", "restart_container": "restart"}
MakeLifecycle = Callable[..., DockerLifecycle]


@pytest.fixture
def make_lifecycle(engine: FakeEngine, secrets_root: RootDirectory) -> Iterator[MakeLifecycle]:
    made: list[DockerLifecycle] = []

    def make(**config: Any) -> DockerLifecycle:
        made.append(DockerLifecycle(BackendConfig(secrets_root=secrets_root, docker_host=engine.url, **config)))
        return made[-1]

    yield make
    for lifecycle in made:
        lifecycle.close()


@pytest.fixture
def lifecycle(make_lifecycle: MakeLifecycle) -> DockerLifecycle:
    return make_lifecycle()


def calls(engine: FakeEngine) -> list[str]:
    """The requests to the engine, with ``ID`` and ``OTHER`` for ids and ``NAME`` for the bot's name.

    Without those that a service sends once.
    """
    names = {ID: "ID", OTHER_ID: "OTHER", f"botmaker-{BOT}": "NAME"}
    paths = [(each.method, each.path.split("/")) for each in engine.requests if each.path not in {"/version", "/info"}]
    return [f"{method} {'/'.join(names.get(part, part) for part in path[2:])}" for method, path in paths]


@pytest.mark.parametrize("known", ["created", "running", "exited"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_known_container_costs_one_call(
    engine: FakeEngine, lifecycle: DockerLifecycle, verb: str, known: str
) -> None:
    """Also its first start, if this process has made it: the create has looked at its program."""
    let_create_succeed(engine)
    carry_out(lifecycle.create_container(BOT, ContainerConfig(), absent=True))
    engine.requests.clear()
    engine.on("POST", f"/containers/{ID}/*", NO_CONTENT)
    assert ID == carry_out(getattr(lifecycle, verb)(BOT, known=KNOWN[known]))
    assert [f"POST ID/{VERBS[verb]}"] == calls(engine)


@pytest.mark.parametrize("verb", ["start_container", "restart_container"])
def test_the_first_start_of_a_container_that_another_process_has_made_costs_a_look_at_it(
    engine: FakeEngine, lifecycle: DockerLifecycle, verb: str
) -> None:
    engine.on("POST", f"/containers/{ID}/*", NO_CONTENT)
    assert ID == carry_out(getattr(lifecycle, verb)(BOT, known=KNOWN["created"]))
    assert ["GET ID/json", f"POST ID/{VERBS[verb]}"] == calls(engine)


@pytest.mark.parametrize(
    ("known", "wanted"),
    [("created", ["DELETE ID"]), ("exited", ["DELETE ID"]), ("running", ["POST ID/stop", "DELETE ID"])],
)
def test_a_known_container_is_removed_without_a_look(
    engine: FakeEngine, lifecycle: DockerLifecycle, known: str, wanted: list[str]
) -> None:
    engine.on("POST", f"/containers/{ID}/stop", NO_CONTENT)
    engine.on("DELETE", f"/containers/{ID}", NO_CONTENT)
    assert ID == carry_out(lifecycle.remove_container(BOT, known=KNOWN[known]))
    assert wanted == calls(engine)


@pytest.mark.parametrize("known", ["running", None])
@pytest.mark.parametrize(
    ("verb", "rest_blocks"), [("stop_container", False), ("restart_container", False), ("remove_container", True)]
)
def test_what_follows_a_grace_period_asks_the_engine_for_nothing_unless_it_says_so(
    engine: FakeEngine, lifecycle: DockerLifecycle, verb: str, known: str | None, *, rest_blocks: bool
) -> None:
    engine.on(*BY_NAME, Json(inspected(running())))
    engine.on("POST", f"/containers/{ID}/*", NO_CONTENT)
    engine.on("DELETE", f"/containers/{ID}", NO_CONTENT)
    operation = getattr(lifecycle, verb)(BOT, known=known and KNOWN[known])
    wait = next(operation)
    wait.future.result(60)
    before = len(engine.requests)
    with pytest.raises(StopIteration) as ended:
        next(operation)
    assert (ID, rest_blocks) == (ended.value.value, wait.rest_may_block)
    assert rest_blocks == (len(engine.requests) > before)


def test_a_container_that_was_started_since_it_was_seen_has_its_grace_period_before_it_is_removed(
    engine: FakeEngine, lifecycle: DockerLifecycle
) -> None:
    engine.on(*BY_NAME, Json(inspected(running())))
    engine.on("POST", f"/containers/{ID}/stop", NO_CONTENT)
    engine.on("DELETE", f"/containers/{ID}", error(409, "You cannot remove a running container"), NO_CONTENT)
    assert ID == carry_out(lifecycle.remove_container(BOT, 7, known=KNOWN["exited"]))
    assert ["DELETE ID", "GET NAME/json", "POST ID/stop", "DELETE ID"] == calls(engine)
    first, last = engine.seen("DELETE", "*")
    assert ("0", "1") == (first.query["force"], last.query["force"])
    assert ["7"] == [each.query["t"] for each in engine.seen("POST", "*")]


def test_a_dead_container_is_looked_up_and_removed_by_force(engine: FakeEngine, lifecycle: DockerLifecycle) -> None:
    engine.on(*BY_NAME, Json(inspected(state("dead"))))
    engine.on("DELETE", f"/containers/{ID}", NO_CONTENT)
    assert ID == carry_out(lifecycle.remove_container(BOT, known=KNOWN["dead"]))
    assert ["GET NAME/json", "DELETE ID"] == calls(engine)


@pytest.mark.parametrize("known", ["running", "exited"])
@pytest.mark.parametrize("verb", [*VERBS, "remove_container"])
def test_a_container_that_was_made_anew_by_hand_is_the_one_that_is_acted_on(
    engine: FakeEngine, lifecycle: DockerLifecycle, verb: str, known: str
) -> None:
    engine.on(*BY_NAME, REMADE)
    engine.on("POST", f"/containers/{OTHER_ID}/*", NO_CONTENT)
    engine.on("DELETE", f"/containers/{OTHER_ID}", NO_CONTENT)
    assert OTHER_ID == carry_out(getattr(lifecycle, verb)(BOT, known=KNOWN[known]))
    assert ("DELETE OTHER" if verb == "remove_container" else f"POST OTHER/{VERBS[verb]}") == calls(engine)[-1]


@pytest.mark.parametrize("known", ["running", "exited", None])
@pytest.mark.parametrize("now", [running(), state("restarting", StartedAt=STARTED, FinishedAt=FINISHED)])
def test_a_start_of_a_bot_that_runs_is_ok_also_when_its_secrets_directory_has_gone(
    engine: FakeEngine, lifecycle: DockerLifecycle, secrets_root: RootDirectory, known: str | None, now: dict[str, Any]
) -> None:
    (secrets_root.path / BOT).rmdir()
    engine.on(*BY_NAME, Json(inspected(now)))
    assert ID == carry_out(lifecycle.start_container(BOT, known=KNOWN[known] if known else None))
    assert [] == engine.seen("POST", "*")


@pytest.mark.parametrize("known", [KNOWN["running"], None])
@pytest.mark.parametrize(
    ("verb", "now"),
    [
        ("start_container", exited()),
        ("start_container", state("paused", StartedAt=STARTED)),
        ("restart_container", running()),
    ],
)
def test_what_would_start_a_process_without_its_secrets_is_refused(
    engine: FakeEngine, lifecycle: DockerLifecycle, verb: str, now: dict[str, Any], known: Any
) -> None:
    """The other bot has no secrets directory."""
    labels = {"botmaker.managed": "true", "botmaker.bot-id": OTHER_BOT}
    engine.on("GET", f"/containers/botmaker-{OTHER_BOT}/json", Json(inspected(now, labels=labels)))
    with pytest.raises(SecretsUnavailableError):
        carry_out(getattr(lifecycle, verb)(OTHER_BOT, known=known))
    assert [] == engine.seen("POST", "*")


@pytest.fixture
def states(tmp_path: Path) -> RootDirectory:
    """A state root without the bot's directory, which the engine sees at another path."""
    (tmp_path / "states").mkdir(mode=0o711)
    return RootDirectory(tmp_path / "states", Path("/engine/states"))


STARTED_FROM = {"start_container": exited(), "restart_container": running()}
MOUNTED = {"Mounts": [{"Type": "bind", "Source": f"/engine/states/{BOT}", "Destination": "/home/node/.openclaw"}]}


@pytest.mark.parametrize("known", [KNOWN["running"], None])
@pytest.mark.parametrize("verb", STARTED_FROM)
def test_what_would_start_a_process_without_its_state_is_refused(
    engine: FakeEngine, make_lifecycle: MakeLifecycle, states: RootDirectory, verb: str, known: Any
) -> None:
    """A restart would end the process first."""
    for path in (f"/containers/{ID}/json", BY_NAME[1]):
        engine.on("GET", path, Json(inspected(STARTED_FROM[verb], **MOUNTED)))
    with pytest.raises(StateUnavailableError, match=f"{states.path / BOT} does not exist"):
        carry_out(getattr(make_lifecycle(state_root=states), verb)(BOT, known=known))
    assert [] == engine.seen("POST", "*")


def test_a_start_of_a_bot_that_runs_is_ok_also_when_its_state_directory_has_gone(
    engine: FakeEngine, make_lifecycle: MakeLifecycle, states: RootDirectory
) -> None:
    for path in (f"/containers/{ID}/json", BY_NAME[1]):
        engine.on("GET", path, Json(inspected(running(), **MOUNTED)))
    assert ID == carry_out(make_lifecycle(state_root=states).start_container(BOT))
    assert [] == engine.seen("POST", "*")


@pytest.mark.parametrize("mounts", [[], [{"Type": "bind", "Source": f"/other/{BOT}"}], None])
@pytest.mark.parametrize("verb", STARTED_FROM)
def test_a_container_that_does_not_mount_the_state_root_needs_no_state(
    engine: FakeEngine, make_lifecycle: MakeLifecycle, states: RootDirectory, verb: str, mounts: Any
) -> None:
    """As one that is older than the state root."""
    for path in (f"/containers/{ID}/json", BY_NAME[1]):
        engine.on("GET", path, Json(inspected(STARTED_FROM[verb], Mounts=mounts)))
    engine.on("POST", f"/containers/{ID}/*", NO_CONTENT)
    assert ID == carry_out(getattr(make_lifecycle(state_root=states), verb)(BOT))
    assert 1 == len(engine.seen("POST", "*"))


@pytest.mark.parametrize("verb", STARTED_FROM)
def test_a_directory_that_the_engine_does_not_see_is_told_by_its_root(
    engine: FakeEngine, make_lifecycle: MakeLifecycle, states: RootDirectory, verb: str
) -> None:
    (states.path / BOT).mkdir()
    for path in (f"/containers/{ID}/json", BY_NAME[1]):
        engine.on("GET", path, Json(inspected(STARTED_FROM[verb], **MOUNTED)))
    lifecycle = make_lifecycle(state_root=states)
    for place, expected in (("/engine/states", StateUnavailableError), ("/secrets", SecretsUnavailableError)):
        text = f'invalid mount config for type "bind": bind source path does not exist: {place}/{BOT}'
        engine.on("POST", f"/containers/{ID}/*", error(400, text))
        with pytest.raises(expected, match=place):
            carry_out(getattr(lifecycle, verb)(BOT))


@pytest.mark.parametrize("own_network", [False, True])
@pytest.mark.parametrize("known", ["dead", "removing"])
@pytest.mark.parametrize(("verb", "status"), [("start_container", 409), ("restart_container", 500)])
def test_start_and_restart_of_a_dead_container_or_one_that_is_removed_give_one_reason(
    engine: FakeEngine, lifecycle: DockerLifecycle, verb: str, status: int, known: str, *, own_network: bool
) -> None:
    """As the engine answers: 409 for a start, and 500 with the same text for a restart. Its network may be gone."""
    engine.on("GET", f"/containers/{ID}/json", Json(inspected(state(known))))
    engine.on("POST", f"/containers/{ID}/*", error(status, "container is marked for removal and cannot be started"))
    with pytest.raises(InvalidStateError):
        carry_out(getattr(lifecycle, verb)(BOT, known=replace(KNOWN[known], own_network=own_network)))
    assert [] == engine.seen("*", "/networks*")


@pytest.mark.parametrize("known", ["running", "exited"])
@pytest.mark.parametrize("verb", [*VERBS, "remove_container"])
def test_a_foreign_container_that_has_taken_the_name_is_never_touched(
    engine: FakeEngine, lifecycle: DockerLifecycle, verb: str, known: str
) -> None:
    engine.on(*BY_NAME, FOREIGN)
    with pytest.raises(NameInUseUnmanagedError):
        carry_out(getattr(lifecycle, verb)(BOT, known=KNOWN[known]))
    assert [] == [call for call in calls(engine) if "OTHER" in call]


@pytest.mark.parametrize("verb", ["start_container", "restart_container"])
def test_a_container_that_is_gone_cannot_be_started(engine: FakeEngine, lifecycle: DockerLifecycle, verb: str) -> None:
    with pytest.raises(ContainerNotFoundError):
        carry_out(getattr(lifecycle, verb)(BOT, known=KNOWN["exited"]))


@pytest.mark.parametrize("known", ["running", "exited"])
@pytest.mark.parametrize("verb", ["stop_container", "remove_container"])
def test_a_container_that_is_gone_is_stopped_and_removed(
    engine: FakeEngine, lifecycle: DockerLifecycle, verb: str, known: str
) -> None:
    assert not carry_out(getattr(lifecycle, verb)(BOT, known=KNOWN[known]))


@pytest.mark.parametrize(
    ("answer", "cls"),
    [
        (error(404, "network bots not found"), StartFailedError),
        (error(409, "cannot start a paused container"), InvalidStateError),
    ],
)
def test_a_known_container_that_cannot_be_started_is_sent_one_start(
    engine: FakeEngine, lifecycle: DockerLifecycle, answer: Json, cls: type[Exception]
) -> None:
    engine.on("GET", f"/containers/{ID}/json", Json(inspected()))
    engine.on("POST", f"/containers/{ID}/start", answer)
    with pytest.raises(cls):
        carry_out(lifecycle.start_container(BOT, known=KNOWN["created"]))
    assert 1 == len(engine.seen("POST", "*"))


def test_a_create_for_a_bot_without_a_container_costs_two_calls_and_says_what_it_saw(
    engine: FakeEngine, lifecycle: DockerLifecycle
) -> None:
    let_create_succeed(engine)
    wanted = Created(ID, status_from_inspect(inspected()))
    assert wanted == carry_out(lifecycle.create_container(BOT, ContainerConfig(), absent=True))
    engine.requests.clear()
    assert wanted == carry_out(lifecycle.create_container(BOT, ContainerConfig(), absent=True))
    assert ["POST create", "GET ID/json"] == calls(engine)


@pytest.mark.parametrize(("holder", "cls"), [(REMADE, ContainerAlreadyExistsError), (FOREIGN, NameInUseUnmanagedError)])
def test_a_create_whose_caller_was_wrong_is_refused_by_what_has_the_name(
    engine: FakeEngine, lifecycle: DockerLifecycle, holder: Json, cls: type[Exception]
) -> None:
    engine.on(*CREATE, TAKEN)
    engine.on(*BY_NAME, holder)
    with pytest.raises(cls):
        carry_out(lifecycle.create_container(BOT, ContainerConfig(), absent=True))


@pytest.mark.parametrize("fault", ["secrets", "network", "image", "refused"])
def test_what_has_the_name_comes_before_any_other_fault_of_a_create(
    engine: FakeEngine, make_lifecycle: MakeLifecycle, secrets_root: RootDirectory, fault: str
) -> None:
    """With and without an engine call before the other checks."""
    engine.on(*CREATE, MISSING_IMAGE if fault == "image" else error(400, "No command specified"))
    engine.on(*BY_NAME, FOREIGN)
    if fault == "secrets":
        Path(secrets_root.source(BOT)).rmdir()
    config = ContainerConfig(network="missing" if fault == "network" else "")
    for absent in (False, True):
        with pytest.raises(NameInUseUnmanagedError):
            carry_out(make_lifecycle(pull_policy=PullPolicy.NEVER).create_container(BOT, config, absent=absent))


@pytest.mark.parametrize("policy", [PullPolicy.ALWAYS, PullPolicy.MISSING])
def test_nothing_is_pulled_for_a_bot_that_has_a_container(
    engine: FakeEngine, make_lifecycle: MakeLifecycle, policy: PullPolicy
) -> None:
    engine.on(*CREATE, MISSING_IMAGE)
    engine.on(*BY_NAME, REMADE)
    with pytest.raises(ContainerAlreadyExistsError):
        carry_out(make_lifecycle(pull_policy=policy).create_container(BOT, ContainerConfig(), absent=True))
    assert [] == engine.seen("POST", "/images/create")


def test_a_create_that_finds_the_container_of_an_earlier_call_returns_it(
    engine: FakeEngine, lifecycle: DockerLifecycle
) -> None:
    engine.on(*CREATE, TAKEN)
    engine.on(*BY_NAME, ABSENT, Json(inspected(container_id=OTHER_ID, labels=labels_of_the_call("wish"))))
    created = carry_out(lifecycle.create_container(BOT, ContainerConfig(), request_id="wish", absent=True))
    assert OTHER_ID == created.container_id


def labels_of_the_call(request_id: str) -> dict[str, str]:
    return {"botmaker.managed": "true", "botmaker.bot-id": BOT, "botmaker.request-id": request_id}


@pytest.mark.parametrize("engine_state", ["exited", "restarting"])
def test_a_stop_of_what_has_ended_does_not_change_why_it_has(
    engine: FakeEngine, lifecycle: DockerLifecycle, engine_state: str
) -> None:
    ended = state(engine_state, ExitCode=137, OOMKilled=True, StartedAt=STARTED, FinishedAt=FINISHED)
    engine.on("GET", "/containers/*/json", Json(inspected(ended)))
    engine.on("POST", "/containers/*/stop", NO_CONTENT)
    for _ in range(2):
        status = lifecycle.get_container_status(BOT)
        assert status is not None
        assert ExitReason.OOM_KILLED is status.exit_reason
        carry_out(lifecycle.stop_container(BOT))


@pytest.mark.parametrize("verb", ["stop_container", "restart_container"])
def test_a_stop_of_what_runs_tells_why_it_ends(engine: FakeEngine, lifecycle: DockerLifecycle, verb: str) -> None:
    """Also that of a restart, which an inspection may see between its two runs."""
    run = {"StartedAt": STARTED, "FinishedAt": FINISHED}
    engine.on("GET", "/containers/*/json", Json(inspected(running(StartedAt=STARTED))))
    engine.on("POST", "/containers/*/" + verb.partition("_")[0], NO_CONTENT)
    carry_out(getattr(lifecycle, verb)(BOT))
    engine.on("GET", "/containers/*/json", Json(inspected(state("exited", ExitCode=137, OOMKilled=True, **run))))
    status = lifecycle.get_container_status(BOT)
    assert status is not None
    assert ExitReason.KILLED is status.exit_reason


def test_a_state_that_the_engine_does_not_see_is_told_by_a_create(
    engine: FakeEngine, make_lifecycle: MakeLifecycle, states: RootDirectory
) -> None:
    text = f'invalid mount config for type "bind": bind source path does not exist: {states.source(BOT)}'
    engine.on(*BY_NAME, ABSENT)
    engine.on(*CREATE, error(400, text))
    with pytest.raises(StateUnavailableError, match="/engine/states"):
        carry_out(make_lifecycle(state_root=states).create_container(BOT, ContainerConfig()))
