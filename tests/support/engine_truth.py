"""The engine's own state of all managed containers, as messages of the service."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import docker
import docker.errors

from botmaker.container.v1 import container_manager_pb2 as pb
from container_manager.backends.docker.status import status_from_inspect
from container_manager.rpc.manager_codec import status_to_proto


def engines_own(engine: docker.DockerClient) -> list[pb.ContainerStatus]:
    """Every managed container, inspected on the engine, in the order of the service's list."""
    statuses = []
    for row in engine.api.containers(all=True, filters={"label": "botmaker.managed=true"}):
        # The service may undo a create after the list, if its caller has gone.
        with suppress(docker.errors.NotFound):
            statuses.append(status_to_proto(status_from_inspect(engine.api.inspect_container(row["Id"]))))
    return sorted(statuses, key=lambda each: (each.create_time.ToNanoseconds(), each.container_id))


def without_last_exits(statuses: Sequence[pb.ContainerStatus]) -> list[pb.ContainerStatus]:
    """The statuses without what the engine does not tell: once a run starts, it forgets how the one before ended."""
    found = []
    for each in statuses:
        kept = pb.ContainerStatus()
        kept.CopyFrom(each)
        kept.ClearField("last_exit")
        found.append(kept)
    return found


def differences(shown: Sequence[pb.ContainerStatus], own: Sequence[pb.ContainerStatus]) -> list[str]:
    """Every field in which the service differs from the engine; empty when there is none."""
    shown = without_last_exits(shown)
    views, engines = ({each.container_id: each for each in statuses} for statuses in (shown, own))
    found = []
    for key in dict.fromkeys([*views, *engines]):
        view, engine = views.get(key), engines.get(key)
        if view is None or engine is None:
            there = "the view" if engine is None else "the engine"
            found.append(f"{key[:12]} is in {there} alone: {_line(view or engine)}")
            continue
        for name in pb.ContainerStatus.DESCRIPTOR.fields_by_name:
            one, other = _value(view, name), _value(engine, name)
            if one != other:
                found.append(f"{key[:12]} of {engine.bot_id} differs in {name}: view {one}, engine {other}")
    if not found and list(shown) != list(own):
        orders = ([each.container_id[:12] for each in statuses] for statuses in (shown, own))
        found.append("the order differs: view {}, engine {}".format(*orders))
    return found


def _value(status: pb.ContainerStatus, name: str) -> object:
    field = pb.ContainerStatus.DESCRIPTOR.fields_by_name[name]
    if field.has_presence and not status.HasField(name):
        return None
    value = getattr(status, name)
    return _line(value) if field.message_type is None or field.has_presence else [_line(each) for each in value]


def _line(value: object) -> str:
    return " ".join(str(value).split())
