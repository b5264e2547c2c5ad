"""ContainerMaintainer, as far as it is the same for all of its calls."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message_factory import GetMessageClass

from botmaker.container.v1 import container_maintainer_pb2 as pb
from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub
from tests.support.calls import fails_with

NOT_BUILT = ("UpgradeContainer",)
METHODS = [pb.DESCRIPTOR.services_by_name["ContainerMaintainer"].methods_by_name[name] for name in NOT_BUILT]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_call_that_the_server_cannot_carry_out_says_so(method: Any, grpc_channel: Any) -> None:
    request = GetMessageClass(method.input_type)()
    call = getattr(ContainerMaintainerStub(grpc_channel), method.name)
    with fails_with("UNIMPLEMENTED", "NOT_SUPPORTED_BY_BACKEND"):
        answer = call(request, timeout=60)
        if method.server_streaming:
            list(answer)
