"""What the engine itself says of all managed containers, in the service's own words."""

from __future__ import annotations

import docker

from botmaker.container.v1 import container_manager_pb2 as pb
from container_manager.engine.status import status_from_inspect
from container_manager.rpc.codec import status_to_proto


def engines_own(engine: docker.DockerClient) -> list[pb.ContainerStatus]:
    """Every managed container, from the engine's own inspect, in the order of the service's list."""
    rows = engine.api.containers(all=True, filters={"label": "botmaker.managed=true"})
    statuses = [status_to_proto(status_from_inspect(engine.api.inspect_container(row["Id"]))) for row in rows]
    return sorted(statuses, key=lambda each: (each.create_time.ToNanoseconds(), each.container_id))
