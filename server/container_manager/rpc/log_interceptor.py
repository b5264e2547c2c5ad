"""One log line per call."""

from __future__ import annotations

import time
from typing import Any

import grpc
import grpc.aio
import structlog

from botmaker.container.v1 import container_manager_pb2 as pb
from container_manager.rpc.handlers import Continuation, Handler, Wrapped, replace_behavior
from container_manager.validation import is_bot_id

_log = structlog.get_logger(__name__)
# Asked every second by probes and interceptors of load balancers; of no interest one by one.
_QUIET_PREFIX = "/grpc.health.v1.Health/"
_SERVICE = pb.DESCRIPTOR.services_by_name["ContainerManager"]
_READS = tuple(f"/{_SERVICE.full_name}/{name}" for name in ("GetContainerStatus", "ListManagedContainers"))


class LogInterceptor(grpc.aio.ServerInterceptor):
    """Logs each call's method, bot, code and duration; never its content, which may be personal or secret.

    Reads that succeed are logged at level debug: they are answered from memory, in less time than a line takes.
    """

    def __init__(self) -> None:
        self._wrapped = Wrapped(_logged)

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        return await self._wrapped(continuation, handler_call_details)


def _logged(method: str, handler: Handler) -> Handler:
    if method.startswith(_QUIET_PREFIX):
        return handler
    tell_success = _log.debug if method in _READS else _log.info

    async def logged(behavior: Any, request: Any, context: Any) -> Any:
        begun = time.monotonic()
        code = "CANCELLED"
        try:
            response = await behavior(request, context)
        except grpc.aio.AbortError:
            code = grpc_code_name(context.code())
            raise
        else:
            code = "OK"
            return response
        finally:
            bot_id = getattr(request, "bot_id", "")
            tell = tell_success if code == "OK" else _log.info
            tell(
                "call",
                method=method,
                bot_id=bot_id if is_bot_id(bot_id) else "",
                code=code,
                duration_ms=round((time.monotonic() - begun) * 1000, 2),
            )

    return replace_behavior(handler, logged)


def grpc_code_name(code: Any) -> str:
    """The name of a status code, which a context holds as gRPC's enum or as a number."""
    names = {status.value[0]: status.name for status in grpc.StatusCode}
    return code.name if isinstance(code, grpc.StatusCode) else names.get(code, str(code))
