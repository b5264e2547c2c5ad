"""The streams that the service serves. A new stream is one row of :data:`STREAM_KINDS`.

The limit interceptor, the number of HTTP/2 streams that a connection may have, and the metrics follow from the table.
"""

from __future__ import annotations

from grpc_health.v1 import health_pb2

from botmaker.container.v1 import container_maintainer_pb2, container_observer_pb2
from container_manager.config import ServerConfig
from container_manager.rpc.reflection import REFLECTION_SERVICES
from container_manager.scheduling.streams import StreamKind

_OBSERVER = container_observer_pb2.DESCRIPTOR.services_by_name["ContainerObserver"].full_name
_MAINTAINER = container_maintainer_pb2.DESCRIPTOR.services_by_name["ContainerMaintainer"].full_name
_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

CONTAINERS = StreamKind(
    "containers",
    "watchers of containers",
    (f"/{_OBSERVER}/WatchContainers",),
    lambda config: config.max_watchers,
)
LOGS = StreamKind(
    "logs",
    "log streams",
    (f"/{_OBSERVER}/StreamLogs",),
    lambda config: config.max_log_streams,
)
STATS = StreamKind(
    "stats",
    "watchers of stats",
    (f"/{_OBSERVER}/WatchStats",),
    lambda config: config.max_watchers,
)
# Callers come back after the restart: the operations go on without them.
MAINTENANCE = StreamKind(
    "maintenance",
    "upgrades, backups and restores",
    tuple(f"/{_MAINTAINER}/{name}" for name in ("UpgradeContainer", "CreateBackup", "RestoreBackup")),
    lambda _: 256,
)
ACTIONS = StreamKind(
    "actions",
    "actions",
    (f"/{_MAINTAINER}/RunAction",),
    lambda config: config.workers,
    until_drained=True,
)
HEALTH = StreamKind(
    "health",
    "watchers of health",
    (f"/{_HEALTH}/Watch",),
    lambda _: 256,
    per_listener=True,
    notifies_shutdown=True,
)
REFLECTION = StreamKind(
    "reflection",
    "reflections",
    tuple(f"/{service}/ServerReflectionInfo" for service in REFLECTION_SERVICES),
    lambda _: 64,
    per_listener=True,
)

STREAM_KINDS = (CONTAINERS, LOGS, STATS, MAINTENANCE, ACTIONS, HEALTH, REFLECTION)


def stream_limits(config: ServerConfig) -> dict[StreamKind, int]:
    """How many streams of each kind the server takes."""
    return {kind: kind.limit(config) for kind in STREAM_KINDS}
