"""States on single nodes: killed at any step, no state is lost, and what cannot be reached is refused unchanged."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from container_manager.backends.bot_container import LABEL_BOT_ID
from container_manager.backends.swarm import state_volumes
from container_manager.backends.swarm.state_volumes import LABEL_STATE_OF
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import (
    CapacityExceededError,
    ContainerManagerError,
    EngineUnavailableError,
    InvalidStateError,
    NodeUnavailableError,
    NotSupportedByBackendError,
    StateTooLargeError,
    StateUnavailableError,
)
from container_manager.maintenance.former_state import FAILED, put_former_back
from container_manager.operation import carry_out
from container_manager.provisioning import host_states, tree_stream
from container_manager.provisioning.host_states import MAINTENANCE_DIRECTORY
from tests.unit.pinned_world import VOLUME, PinnedWorld, remove_tree
from tests.unit.provisioned import BOT, USER, entries, owned, staged
from tests.unit.test_provisioning_killed import kills

OLD = {"a/b": b"old" * 100, "c": b"old"}
NEW = {"a/b": b"new" * 100, "d": b"new"}
LATER = {"d": b"later"}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PinnedWorld:
    world = PinnedWorld(tmp_path)
    monkeypatch.setattr(state_volumes, "VolumeClient", world.node)
    monkeypatch.setattr(state_volumes, "_LOOK_SECONDS", 0.001)
    world.put(OLD)
    return world


def test_a_copy_and_the_state_change_places(world: PinnedWorld) -> None:
    states = world.states
    os.mkfifo(world.volume / "pipe")
    (world.volume / "cache").mkdir()
    (world.volume / "cache" / "x").write_bytes(b"x")
    world.volume.chmod(0o750)
    told: list[int] = []
    copied = states.copy_aside(BOT, "copy", without=["cache"], on_progress=told.append)
    assert (4, ["pipe"], 303, 303) == (copied.entries, copied.left_out, copied.size_bytes, told[-1])
    assert world.copy("copy") == OLD
    place = world.root.path / MAINTENANCE_DIRECTORY / BOT / "copy"
    assert owned(world.volume) == owned(place)
    world.put(LATER)
    states.exchange(BOT, put="copy", keep="former")
    assert (OLD, LATER, None) == (world.state(), world.copy("former"), world.copy("copy"))
    assert "0o750" == owned(world.volume)[2]
    states.exchange(BOT, put="copy", keep="former")
    states.exchange(BOT, put="former", keep="failed")
    assert (LATER, OLD) == (world.state(), world.copy("failed"))
    states.discard(BOT, "failed")
    assert [] == entries(world.root.path / MAINTENANCE_DIRECTORY)
    assert [] == world.node.names()


def test_a_state_appears_on_a_node_whose_engine_is_named_where_there_was_none(world: PinnedWorld) -> None:
    remove_tree(world.volume)
    carry_out(world.nodes.forget(BOT, "b"))
    assert not world.states.has_state(BOT)
    world.new("new", NEW)
    assert world.swarm.rows["b"]["Spec"]["Labels"], "the create that follows goes there"
    assert not world.states.has_state(BOT)
    world.states.exchange(BOT, put="new", keep="former")
    assert (NEW, None) == (world.state(), world.copy("former"))
    assert (*USER, "0o700") == owned(world.volume)
    assert world.states.has_state(BOT)


def test_a_killed_exchange_loses_nothing_and_the_same_call_completes_it(world: PinnedWorld) -> None:
    states = world.states
    world.new("new", NEW)
    for _ in kills(lambda: states.exchange(BOT, put="new", keep="former")):
        assert OLD in ([world.state()] if world.volume.exists() else []) or world.copy("former") == OLD
        assert world.copy("new") == NEW or world.state() == NEW
        if states.has_state(BOT):
            assert world.state() in (OLD, NEW), "it is a whole one"
        states.exchange(BOT, put="new", keep="former")
        assert (NEW, OLD, None) == (world.state(), world.copy("former"), world.copy("new"))
        assert ["former"] == entries(world.root.path / MAINTENANCE_DIRECTORY / BOT)
        assert states.has_state(BOT)
        # Back, for the next kill.
        states.exchange(BOT, put="former", keep="new")
    assert (NEW, OLD) == (world.state(), world.copy("former"))


def test_a_killed_exchange_without_a_state_keeps_none(world: PinnedWorld) -> None:
    remove_tree(world.volume)
    world.new("new", NEW)
    for _ in kills(lambda: world.states.exchange(BOT, put="new", keep="former")):
        world.states.exchange(BOT, put="new", keep="former")
        assert (NEW, None) == (world.state(), world.copy("former"))
        remove_tree(world.volume)
        world.new("new", NEW)


def test_a_killed_rollback_loses_neither_the_former_state_nor_the_failed_one(world: PinnedWorld) -> None:
    means: Any = SimpleNamespace(states=world.states)
    task: Any = SimpleNamespace(bot_id=BOT, facts={}, copy_name="{}-1".format)
    world.new("former-1", OLD)
    world.put(NEW)
    for _ in kills(lambda: put_former_back(means, task)):
        put_former_back(means, task)
        assert (OLD, NEW, None) == (world.state(), world.copy(FAILED), world.copy("former-1"))
        assert world.states.has_state(BOT)
        world.states.discard(BOT, FAILED)
        world.new("former-1", OLD)
        world.put(NEW)


@pytest.mark.parametrize("hindrance", ["too deep", "full disk", "broken stream"])
def test_a_rollback_goes_without_the_state_that_failed_where_it_cannot_be_copied_and_says_so(
    world: PinnedWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, hindrance: str
) -> None:
    """The bot is down meanwhile. A restore never does: it might be the only copy of the state."""
    task: Any = SimpleNamespace(bot_id=BOT, facts={}, copy_name="{}-1".format)
    world.new("former-1", OLD)
    world.new(FAILED, LATER)
    world.put(NEW)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if hindrance == "too deep":
        monkeypatch.setattr(tree_stream, "MAX_DEPTH", 0)
    elif hindrance == "full disk":
        monkeypatch.setattr(tree_stream, "write_sparse", full)
    else:
        world.node.cut = lambda data: data[:700]
    with pytest.raises((StateTooLargeError, CapacityExceededError, StateUnavailableError)):
        world.states.exchange(BOT, put="former-1", keep="kept")
    assert NEW == world.state()
    put_former_back(SimpleNamespace(states=world.states), task)  # type: ignore[arg-type]
    assert (OLD, []) == (world.state(), world.copies.asides(BOT))
    assert 1 == caplog.text.count(f"the state that bot {BOT} leaves could not be kept: ")


def test_a_restore_that_was_killed_amid_its_exchange_can_go_back(world: PinnedWorld) -> None:
    """As restore.py does it."""
    states = world.states
    task: Any = SimpleNamespace(bot_id=BOT, facts={}, copy_name="{}-1".format)
    world.new("restored", NEW)
    for _ in kills(lambda: states.exchange(BOT, put="restored", keep="former-1")):
        if states.has_aside(BOT, "restored"):
            states.exchange(BOT, put="former-1", keep="restored")
            states.discard(BOT, "restored")
        put_former_back(SimpleNamespace(states=states), task)  # type: ignore[arg-type]
        assert OLD == world.state()
        assert states.has_state(BOT)
        states.discard(BOT, FAILED)
        world.new("restored", NEW)


def test_a_killed_copy_is_no_copy_and_is_made_anew(world: PinnedWorld) -> None:
    for _ in kills(lambda: world.states.copy_aside(BOT, "copy")):
        assert world.copy("copy") in (None, OLD)
        world.states.copy_aside(BOT, "other")
        assert (OLD, []) == (world.copy("other"), world.node.names())
        world.states.discard(BOT, "other")
        world.states.discard(BOT, "copy")
        assert [] == entries(world.root.path / MAINTENANCE_DIRECTORY)


def test_what_is_needed_after_a_power_cut_is_on_the_disk_and_the_bot_waits_for_nothing_else(
    world: PinnedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(host_states, "sync_file_system", synced.append)
    world.states.copy_aside(BOT, "copy-backup")
    assert 0 == len(synced)
    world.states.copy_aside(BOT, "former-1")
    assert 1 == len(synced)
    world.new("copy-restored", NEW)
    assert 2 == len(synced)
    world.states.exchange(BOT, put="copy-restored", keep="copy-kept")
    assert 4 == len(synced), "the state from before, and the mark"


def calls(world: PinnedWorld) -> list[Callable[[], object]]:
    """Everything that needs the volume."""
    return [
        lambda: world.states.has_state(BOT),
        lambda: world.states.copy_aside(BOT, "copy"),
        lambda: world.new("copy", NEW),
        lambda: world.states.exchange(BOT, put="new", keep="former"),
    ]


def test_what_is_on_a_node_whose_engine_is_not_named_is_refused_with_the_node_and_the_option(
    world: PinnedWorld,
) -> None:
    world.new("new", NEW)
    world.of_engines({"machine-a": "tcp://a:1"})
    before = world.swarm.list_nodes(None)  # type: ignore[arg-type]
    for call in calls(world):
        with pytest.raises(NotSupportedByBackendError, match=r"node machine-b.*--node-engine machine-b=URL") as caught:
            call()
        assert {"bot_id": BOT, "backend": "swarm", "node": "machine-b"} == caught.value.metadata
    assert (OLD, ["new"], before) == (world.state(), world.copies.asides(BOT), world.swarm.list_nodes(None))  # type: ignore[arg-type]


def test_a_node_that_is_down_is_told_at_once(world: PinnedWorld) -> None:
    world.new("new", NEW)
    world.swarm.rows["b"]["Status"]["State"] = "down"
    for call in calls(world):
        with pytest.raises(NodeUnavailableError, match="machine-b"):
            call()
    assert (OLD, ["new"]) == (world.state(), world.copies.asides(BOT))


@pytest.mark.parametrize("node_id", ["a", ""], ids=["another node", "no node"])
def test_an_engine_that_is_not_that_of_the_node_is_neither_read_nor_written(world: PinnedWorld, node_id: str) -> None:
    world.new("new", NEW)
    world.node.node_id = node_id
    for call in calls(world):
        with pytest.raises(EngineUnavailableError, match="--node-engine"):
            call()
    assert (OLD, ["new"]) == (world.state(), world.copies.asides(BOT))


def test_the_files_of_an_engine_that_remaps_users_are_not_copied(world: PinnedWorld) -> None:
    """It sends the numbers of its host, and maps those that it takes: no copy could be put back."""
    world.new("new", NEW)
    world.node.remaps_users = True
    for call in calls(world):
        with pytest.raises(NotSupportedByBackendError, match="machine-b, whose engine remaps users"):
            call()
    assert (OLD, ["new"]) == (world.state(), world.copies.asides(BOT))
    world.files.delete_state(BOT)
    assert not world.volume.exists()


def test_a_bot_goes_where_its_container_is_pinned_to(world: PinnedWorld) -> None:
    """A bot that was never started has no state there, whatever its node has."""
    world.swarm.pin("a")
    assert not world.states.has_state(BOT)
    with pytest.raises(NotSupportedByBackendError, match="machine-a"):
        world.new("new", NEW)
    world.swarm.pin("b")
    assert world.states.has_state(BOT)
    carry_out(world.nodes.forget(BOT, "b"))
    assert world.states.has_state(BOT), "its next run has that state, whatever the node's labels say"
    for elsewhere in (None, "gone"):
        world.swarm.pin(elsewhere)
        with pytest.raises(InvalidStateError, match="not pinned to a node of the swarm"):
            world.states.has_state(BOT)


def test_a_bot_without_a_node_has_no_state_and_gets_one_only_where_an_engine_is_named(world: PinnedWorld) -> None:
    carry_out(world.nodes.forget(BOT, "b"))
    assert not world.states.has_state(BOT)
    with pytest.raises(StateUnavailableError, match="no node has"):
        world.states.copy_aside(BOT, "copy")
    world.swarm.rows["b"]["Spec"]["Availability"] = "drain"
    with pytest.raises(EngineUnavailableError, match="no node"):
        world.new("new", NEW)
    assert [] == world.copies.asides(BOT)


def test_a_volume_that_is_gone_is_no_empty_state(world: PinnedWorld) -> None:
    remove_tree(world.volume)
    assert not world.states.has_state(BOT)
    with pytest.raises(StateUnavailableError, match="is gone"):
        world.states.copy_aside(BOT, "copy")
    assert not world.volume.exists()


@pytest.mark.parametrize(
    ("cut", "error"),
    [(lambda data: data[:-10240], StateUnavailableError), (lambda data: data[:700], StateUnavailableError)],
)
def test_a_stream_that_breaks_leaves_no_copy_and_nothing_on_the_node(
    world: PinnedWorld, cut: Callable[[bytes], bytes], error: type[ContainerManagerError]
) -> None:
    world.node.cut = cut
    world.new("new", NEW)
    for call in (calls(world)[1], calls(world)[3]):
        with pytest.raises(error):
            call()
    assert (OLD, ["new"], []) == (world.state(), world.copies.asides(BOT), world.node.names())


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (EngineRejectedError(500, "no space left on device"), CapacityExceededError),
        (EngineRejectedError(500, "broken"), EngineUnavailableError),
        (EngineUnavailableError("away"), EngineUnavailableError),
    ],
)
def test_an_exchange_that_an_engine_breaks_off_is_completed_by_the_next(
    world: PinnedWorld, failure: Exception, error: type[ContainerManagerError]
) -> None:
    def fail(call: str) -> None:
        if call == "put_entry" and (world.volume / "a").exists():
            raise failure

    world.new("new", NEW)
    world.node.before_call = fail
    with pytest.raises(error):
        world.states.exchange(BOT, put="new", keep="former")
    assert not world.states.has_state(BOT)
    assert (NEW, OLD) == (world.copy("new"), world.copy("former"))
    world.node.before_call = lambda _: None
    world.states.exchange(BOT, put="new", keep="former")
    assert (NEW, OLD, []) == (world.state(), world.copy("former"), world.node.names())


def test_the_bots_ended_containers_give_the_volume_up_and_no_others(
    world: PinnedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.new("new", NEW)
    world.node.hold("task", VOLUME, "exited", {LABEL_BOT_ID: BOT})
    world.node.hold(f"{VOLUME}-state", VOLUME, "created", {LABEL_STATE_OF: BOT})
    world.node.hold("other", "another-volume", "exited", {LABEL_BOT_ID: BOT})
    world.states.exchange(BOT, put="new", keep="former")
    assert (NEW, ["other"]) == (world.state(), world.node.names())
    monkeypatch.setattr(state_volumes, "_IN_USE_SECONDS", 0.01)
    for name, state, labels in (("runs", "running", {LABEL_BOT_ID: BOT}), ("foreign", "exited", {"by": "hand"})):
        world.node.hold(name, VOLUME, state, labels)
        with pytest.raises(InvalidStateError, match="still has the bot's state"):
            world.states.exchange(BOT, put="former", keep="failed")
        assert (NEW, OLD, {"other", name}) == (world.state(), world.copy("former"), set(world.node.names()))
        assert world.states.has_state(BOT)
        world.node.remove_container(name)


def test_deleting_a_state_deletes_its_copies_and_is_not_kept_from_it_by_a_killed_service(world: PinnedWorld) -> None:
    world.new("failed", NEW)
    world.node.hold("left", VOLUME, "created", {LABEL_STATE_OF: BOT})
    world.files.delete_state(BOT)
    assert (False, [], []) == (world.volume.exists(), world.copies.asides(BOT), world.node.names())
    assert {} == world.swarm.rows["b"]["Spec"]["Labels"]
    world.files.delete_state(BOT)


def test_what_killed_copies_have_left_is_taken_away_and_removed(world: PinnedWorld) -> None:
    for name in ("copy-backup-mine-1", "copy-backup-its-1", "former-mine-1"):
        world.states.copy_aside(BOT, name)
    world.states.set_leftovers_aside("mine", set())
    assert ["copy-backup-its-1", "former-mine-1"] == sorted(world.copies.asides(BOT))
    assert 1 == len(staged(world.root))
    world.files.remove_leftovers()
    assert [] == staged(world.root)
