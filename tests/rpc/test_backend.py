"""What the RPC layer does with what a backend says of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

import grpc
import pytest

from botmaker.container.v1 import container_observer_pb2 as pb
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager.backend import Feature
from container_manager.backends.docker.backend import DockerBackend
from container_manager.config import ServerConfig
from container_manager_client import error_info
from tests.support.serving import running_server

WHY = "this backend has neither logs nor stats"


class Limited(DockerBackend):
    """A backend that lacks both features."""

    limitations: ClassVar[Mapping[Feature, str]] = {Feature.LOGS: WHY, Feature.STATS: WHY}


@pytest.fixture
def grpc_server(grpc_addr: str, server_config: Callable[..., ServerConfig]) -> Iterator[list[str]]:
    config = server_config(f"unix://{grpc_addr.removeprefix('unix:')}")
    with running_server(config, backend=partial(Limited, config.service)) as addresses:
        yield addresses


@pytest.mark.parametrize("method", ["StreamLogs", "WatchStats"])
def test_what_the_backend_cannot_do_is_refused_with_the_reason(grpc_channel: Any, bot_id: str, method: str) -> None:
    stub = ContainerObserverStub(grpc_channel)
    request = pb.StreamLogsRequest(bot_id=bot_id) if method == "StreamLogs" else pb.WatchStatsRequest()
    with pytest.raises(grpc.RpcError) as caught:
        next(iter(getattr(stub, method)(request, timeout=30)))
    problem = error_info(caught.value)
    assert (grpc.StatusCode.UNIMPLEMENTED, "NOT_SUPPORTED_BY_BACKEND") == (caught.value.code(), problem.reason)
    assert (WHY, {"backend": "docker"}) == (problem.message, dict(problem.metadata))
