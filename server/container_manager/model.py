"""The domain's values: what a caller requests, and what the engine reports about a container.

Times are integers in nanoseconds since the Unix epoch, as fine as the engine tells them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

DEFAULT_HOST_IP = "127.0.0.1"

Labels = tuple[tuple[str, str], ...]
"""Keys with their values."""


class Protocol(Enum):
    """Transport protocol of a port; the values are the engine's."""

    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"


class ContainerState(Enum):
    """State of a container; the values are the engine's (Docker Engine API, ``State.Status``)."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


class ExitReason(Enum):
    """Why a container's process ended, or never ran."""

    COMPLETED = "completed"
    ERROR = "error"
    OOM_KILLED = "oom_killed"
    KILLED = "killed"
    START_FAILED = "start_failed"


class HealthStatus(Enum):
    """Result of a container's health check; the values are the engine's."""

    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


class PullPolicy(Enum):
    """When an image is pulled before a container is created from it."""

    MISSING = "missing"
    ALWAYS = "always"
    NEVER = "never"


class BotNetwork(Enum):
    """The network of a container whose create names none."""

    BRIDGE = "bridge"
    """The engine's default bridge, which all these containers share."""
    ISOLATED = "isolated"
    """A bridge of the bot's own."""


@dataclass(frozen=True, slots=True)
class PortBinding:
    """One container port published on one host address."""

    container_port: int
    """1 to 65535."""
    host_port: int = 0
    """1 to 65535; 0: the engine picks one at each start."""
    host_ip: str = ""
    """IP address; empty: 127.0.0.1."""
    protocol: Protocol = Protocol.TCP


@dataclass(frozen=True)
class ResourceLimits:
    """Bounds of a container; 0 in a field means no limit."""

    memory_bytes: int = 0
    nano_cpus: int = 0
    """Billionths of one CPU."""
    pids_limit: int = 0


@dataclass(frozen=True)
class HealthCheck:
    """A health check in place of the image's own; 0 in a field means the engine's default."""

    command: tuple[str, ...]
    """The program and its arguments."""
    interval_seconds: float = 0.0
    timeout_seconds: float = 0.0
    start_period_seconds: float = 0.0
    retries: int = 0


@dataclass(frozen=True)
class ContainerConfig:
    """The configuration of a bot's container. Fields mean what they mean in the proto message of the same name."""

    image: str = ""
    ai_provider: str = ""
    ai_model: str = ""
    channel_type: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[PortBinding, ...] = ()
    network: str = ""
    extra_hosts: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    resources: ResourceLimits = ResourceLimits()
    health_check: HealthCheck | None = None
    hostname: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


VARIABLE_BOT_ID = "BOT_ID"
"""The variable with the bot's id in its container."""
TYPED_VARIABLES = {"ai_provider": "AI_PROVIDER", "ai_model": "AI_MODEL", "channel_type": "CHANNEL_TYPE"}
"""Fields of a :class:`ContainerConfig`, and the variable that each of them sets."""


class ContainerDefinition(NamedTuple):
    """What would make a container again."""

    container_id: str
    config: ContainerConfig
    """With the image as it was asked for."""
    image_id: str
    """The image that the container was made from; ``config.image`` may name another one by now."""
    state_mount: str = ""
    """Where the container has the bot's state; empty: nowhere. A create may put it elsewhere by now."""


@dataclass(frozen=True, slots=True)
class LastExit:
    """How the run before the present one ended."""

    exit_code: int
    exit_reason: ExitReason
    finish_time_ns: int


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    """The status of one container. ``None`` means: has not happened, or does not apply."""

    container_id: str
    bot_id: str
    """Empty when the label is missing or is not a canonical UUID."""
    name: str
    state: ContainerState | None
    """``None`` for a state that this version does not support."""
    image: str
    image_id: str
    create_time_ns: int | None
    start_time_ns: int | None = None
    finish_time_ns: int | None = None
    exit_code: int | None = None
    exit_reason: ExitReason | None = None
    error: str = ""
    health: HealthStatus | None = None
    restart_count: int = 0
    ports: tuple[PortBinding, ...] = ()
    hostname: str = ""
    labels: Labels = ()
    """The caller's own, by key."""
    last_exit: LastExit | None = None
    """``None`` also when this service has not seen that end."""
    node: str = ""
    """The host name of the container's machine; empty on a single engine, and for a container on no machine."""
    node_unreachable: bool = False
    """That machine cannot be reached; everything else is what was last known."""
    action_set: str = ""
    """Which built-in actions the image has: see :mod:`container_manager.actions`. Not shown to callers."""
    own_network: bool = False
    """It has a network of the bot's own. Not shown to callers."""
    request_id: str = ""
    """Of the create that has made it, if that had one. Not shown to callers."""


@dataclass(frozen=True)
class ContainerFilter:
    """Which containers are wanted; an empty field means all."""

    states: frozenset[ContainerState] = frozenset()
    bot_ids: frozenset[str] = frozenset()
    labels: frozenset[tuple[str, str]] = frozenset()
    """A container must have all of them."""

    def matches(self, status: ContainerStatus) -> bool:
        """Whether the container is wanted."""
        return (
            (not self.states or status.state in self.states)
            and (not self.bot_ids or status.bot_id in self.bot_ids)
            and (not self.labels or self.labels.issubset(status.labels))
        )


class LogSource(Enum):
    """The stream that a line was written to."""

    STDOUT = "stdout"
    STDERR = "stderr"


class LogEntry(NamedTuple):
    """A line that the container has written, or a part of one. A NamedTuple, because there are very many."""

    time_ns: int
    """Unique within the container's log, and growing unless the clock is set back: see
    :mod:`container_manager.logs.cursor`.
    """
    source: LogSource
    line: bytes
    """As the engine stores it, without its newline."""
    partial: bool
    """No newline follows: the line continues in the source's next entry, or its writer ended without one."""
    cursor: bytes = b""
    """Names the entry for a reader that continues after it."""
    gap: bool = False
    """Entries before this one are missing."""


class SecretInfo(NamedTuple):
    """A secret file, without its content."""

    name: str
    size_bytes: int
    time_ns: int
    """When it was written."""


RawEntry = tuple[int, LogSource, bytes, bool]
"""The time of an entry, its source, its line, and whether it is partial: what a backend knows of a :class:`LogEntry`.
The time is the engine's, which is neither unique nor ordered.
"""


class DiskUse(NamedTuple):
    """What a container occupies on the disk, in bytes; ``None``: unknown."""

    state_bytes: int | None = None
    """The bot's state directory."""
    layer_bytes: int | None = None
    """What the container has written outside its mounts."""


@dataclass(frozen=True, slots=True)
class RawSample:
    """The engine's counters of one running container at one moment."""

    time_ns: int
    """When they were read, in nanoseconds since the epoch, by the backend's clock."""
    cpu_ns: int
    """CPU time on all cores since the container started."""
    cpus: int
    """The machine's cores; 0: unknown."""
    memory_usage_bytes: int
    memory_limit_bytes: int
    network_rx_bytes: int
    network_tx_bytes: int
    pids: int


def container_name(bot_id: str) -> str:
    """The name of a bot's container."""
    return f"botmaker-{bot_id}"


def owned_bot(status: ContainerStatus) -> str | None:
    """The bot whose container this is; ``None`` for a container that has the labels but not the bot's name."""
    return status.bot_id if status.bot_id and status.name == container_name(status.bot_id) else None


def newest_of_bot(bot_id: str, containers: Iterable[ContainerStatus | None]) -> ContainerStatus | None:
    """Of these, the bot's container: the one with its name, else the newest that was made for it."""
    found = [each for each in containers if each is not None and each.bot_id == bot_id]
    return max(found, key=lambda each: (owned_bot(each) == bot_id, *age(each)), default=None)


def age(status: ContainerStatus) -> tuple[int, str]:
    """Greater for a newer container."""
    return status.create_time_ns or 0, status.container_id
