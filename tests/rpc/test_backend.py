"""What the RPC layer does with what a backend says of itself."""

from __future__ import annotations

import uuid

import grpc
import pytest

from botmaker.container.v1 import container_observer_pb2 as pb
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager.backend import Feature
from container_manager.bot_directories import RootDirectory
from container_manager_client import error_info
from tests.support.memory_backend import MemoryBackend

WHY = "this backend has neither logs nor stats"


@pytest.fixture
def memory(rpc_secrets: RootDirectory) -> MemoryBackend:
    """A backend that lacks both features."""
    return MemoryBackend(rpc_secrets, limitations={Feature.LOGS: WHY, Feature.STATS: WHY})


REQUESTS = {
    "StreamLogs": pb.StreamLogsRequest(bot_id=str(uuid.uuid4())),
    "WatchStats": pb.WatchStatsRequest(),
    "GetStats": pb.GetStatsRequest(),
}


@pytest.mark.parametrize("method", REQUESTS)
def test_what_the_backend_cannot_do_is_refused_with_the_reason(observer: ContainerObserverStub, method: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(getattr(observer, method)(REQUESTS[method], timeout=30))
    problem = error_info(caught.value)
    assert (grpc.StatusCode.UNIMPLEMENTED, "NOT_SUPPORTED_BY_BACKEND") == (caught.value.code(), problem.reason)
    assert (WHY, {"backend": "memory"}) == (problem.message, dict(problem.metadata))
