"""The deadline of an operation: its caller's, less the time to answer."""

from __future__ import annotations

from typing import Any

from container_manager.deadline import Deadline

# The part of the caller's deadline that is reserved for the response. Without it the caller would get its own
# DEADLINE_EXCEEDED, without a reason, a moment before ours.
_ANSWER_SHARE = 0.1
_ANSWER_MAX_SECONDS = 0.2


def caller_deadline(context: Any) -> Deadline:
    """The deadline of the call with this context, a ``grpc.aio.ServicerContext``."""
    remaining = context.time_remaining()
    if remaining is None:
        return Deadline()
    return Deadline(max(0.0, remaining - min(_ANSWER_MAX_SECONDS, remaining * _ANSWER_SHARE)))
