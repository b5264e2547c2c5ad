"""Short forms of the seven RPCs: by bot id, with a default for everything else."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager_client import ErrorInfo, error_info

FOREVER = ("sleep", "100000")
# Prints "ready" when it handles SIGTERM and "asked" when it receives one, and does not exit.
STUBBORN = ("sh", "-c", "trap 'echo asked' TERM; echo ready; while :; do sleep 1; done")


@dataclass(frozen=True)
class Calls:
    """Short forms over the generated stub."""

    stub: ContainerManagerStub

    def create(
        self, bot_id: str, *command: str, request_id: str = "", timeout: float | None = None, **config: Any
    ) -> str:
        """CreateContainer; the container's id."""
        request = pb.CreateContainerRequest(
            bot_id=bot_id, request_id=request_id, config=pb.ContainerConfig(command=command, **config)
        )
        return self.stub.CreateContainer(request, timeout=timeout).container_id

    def start(self, bot_id: str, timeout: float | None = None) -> None:
        """StartContainer."""
        self.stub.StartContainer(pb.StartContainerRequest(bot_id=bot_id), timeout=timeout)

    def run(self, bot_id: str, *command: str, **config: Any) -> str:
        """Create and start; the container's id."""
        container_id = self.create(bot_id, *command, **config)
        self.start(bot_id)
        return container_id

    def stop(self, bot_id: str, grace: float | None = None, timeout: float | None = None) -> None:
        """StopContainer."""
        self.stub.StopContainer(pb.StopContainerRequest(bot_id=bot_id, grace_period=_duration(grace)), timeout=timeout)

    def restart(self, bot_id: str, grace: float | None = None, timeout: float | None = None) -> None:
        """RestartContainer."""
        request = pb.RestartContainerRequest(bot_id=bot_id, grace_period=_duration(grace))
        self.stub.RestartContainer(request, timeout=timeout)

    def remove(self, bot_id: str, grace: float | None = None, timeout: float | None = None) -> None:
        """RemoveContainer."""
        request = pb.RemoveContainerRequest(bot_id=bot_id, grace_period=_duration(grace))
        self.stub.RemoveContainer(request, timeout=timeout)

    def status(self, bot_id: str) -> pb.ContainerStatus | None:
        """GetContainerStatus; ``None`` when absent."""
        response = self.stub.GetContainerStatus(pb.GetContainerStatusRequest(bot_id=bot_id))
        return response.status if response.HasField("status") else None

    def list(self, *states: int) -> list[pb.ContainerStatus]:
        """ListManagedContainers."""
        return list(self.stub.ListManagedContainers(pb.ListManagedContainersRequest(states=states)).containers)

    def listed(self, bot_ids: Sequence[str]) -> list[pb.ContainerStatus]:
        """The containers of these bots in the list."""
        return [container for container in self.list() if container.bot_id in bot_ids]


@contextmanager
def fails_with(code: str, reason: str) -> Any:
    """The call inside fails with this code and reason; yields a list that then holds its :class:`ErrorInfo`."""
    caught: list[ErrorInfo] = []
    with pytest.raises(grpc.RpcError) as raised:
        yield caught
    info = error_info(raised.value)
    assert (info.code.name, info.reason) == (code, reason), info.message
    assert "Traceback" not in info.message
    caught.append(info)


def _duration(seconds: float | None) -> Duration | None:
    if seconds is None:
        return None
    return Duration(seconds=int(seconds), nanos=round(seconds % 1 * 1e9))
