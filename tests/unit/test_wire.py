"""Messages assembled from encoded statuses equal those that protobuf itself encodes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from container_manager.model import ContainerState, ContainerStatus
from container_manager.rpc import wire
from container_manager.rpc.manager_codec import status_to_proto
from container_manager.rpc.observer_codec import WatchEventEncoder, watch_event_to_proto
from container_manager.view.live_view import Entry
from container_manager.view.subscription import Kind, WatchEvent


def status(number: int = 1, error: str = "") -> ContainerStatus:
    """A container."""
    return ContainerStatus(
        container_id=f"{number:064x}",
        bot_id="11111111-1111-4111-8111-111111111111",
        name="botmaker-11111111-1111-4111-8111-111111111111",
        state=ContainerState.CREATED,
        image="image",
        image_id="sha256:1",
        create_time_ns=number,
        error=error,
    )


def entry(of: ContainerStatus) -> Entry:
    """A container in the view."""
    return Entry(of, wire.encoded_status(of), of.bot_id, 7, 7, partial=False, began=1, applied=2)


def test_the_status_has_the_same_number_in_both_answers() -> None:
    assert wire.STATUS_FIELD == pb.GetContainerStatusResponse.DESCRIPTOR.fields_by_name["status"].number
    assert wire.STATUS_FIELD == pb.ListManagedContainersResponse.DESCRIPTOR.fields_by_name["containers"].number


# The length of a status takes one byte on the wire up to 127, two up to 16383, and three beyond.
@pytest.mark.parametrize("length", [0, 1, 127, 128, 16_000, 17_000, 70_000])
def test_an_encoded_status_is_the_whole_answer_of_get(length: int) -> None:
    of = status(error="x" * length)
    expected = pb.GetContainerStatusResponse(status=status_to_proto(of))
    assert expected.SerializeToString() == wire.encoded_status(of)


@given(st.lists(st.integers(1, 2**60), max_size=20))
def test_joined_statuses_are_the_answer_of_list(numbers: list[int]) -> None:
    statuses = [status(number) for number in numbers]
    expected = pb.ListManagedContainersResponse(containers=[status_to_proto(each) for each in statuses])
    assert expected.SerializeToString() == wire.joined(wire.encoded_status(each) for each in statuses)


def test_what_a_watcher_is_told() -> None:
    of = status()
    message = status_to_proto(of)
    removed = observer_pb.Removed(bot_id=of.bot_id, container_id=of.container_id)
    expected = {
        Kind.SNAPSHOT: observer_pb.WatchContainersResponse(version=9, snapshot=message),
        Kind.CHANGED: observer_pb.WatchContainersResponse(version=9, changed=message),
        Kind.REMOVED: observer_pb.WatchContainersResponse(version=9, removed=removed),
        Kind.SYNCED: observer_pb.WatchContainersResponse(version=9, synced=observer_pb.Synced()),
        Kind.RESYNCED: observer_pb.WatchContainersResponse(version=9, resynced=observer_pb.Resynced()),
    }
    about_the_stream = (Kind.SYNCED, Kind.RESYNCED)
    actual = {kind: WatchEvent(kind, 9, None if kind in about_the_stream else entry(of)) for kind in Kind}
    assert expected == {
        kind: observer_pb.WatchContainersResponse.FromString(watch_event_to_proto(told))
        for kind, told in actual.items()
    }


@given(st.data())
def test_what_many_watchers_are_told_in_any_order_is_what_each_would_be(data: st.DataObject) -> None:
    entries = [None, *(entry(status(number)) for number in (1, 1, 2))]
    told = st.builds(WatchEvent, st.sampled_from(Kind), st.integers(1, 2), st.sampled_from(entries))
    about_containers = (Kind.SNAPSHOT, Kind.CHANGED, Kind.REMOVED)
    fitting = told.filter(lambda each: (each.kind in about_containers) == (each.entry is not None))
    encoder = WatchEventEncoder()
    for each in data.draw(st.lists(fitting, max_size=12)):
        assert watch_event_to_proto(each) == encoder.encode(each)
