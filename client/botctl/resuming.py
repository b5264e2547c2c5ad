"""Resumes streams after the service or its engine was unavailable."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import grpc

from container_manager_client import error_info

T = TypeVar("T")

# CANCELLED: the service shuts down. DEADLINE_EXCEEDED: the engine stops answering.
_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
# With these reasons, an operation goes on. gRPC's own errors have none.
_GOES_ON = ("", "SHUTTING_DOWN")
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 2.0
# A stream that breaks sooner has not shown that the service is there to stay.
_STEADY_SECONDS = 10.0


def followed(
    open_stream: Callable[[], Any],
    notice: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[T]:
    """Yields the messages of a stream, and reopens it whenever it breaks, until it ends by itself.

    ``open_stream`` opens a stream that continues where the last one broke. If the service or its engine is unavailable,
    this waits for it and raises no error, so check beforehand that the service exists. Other errors are raised.
    """
    return _reopened(open_stream, notice, sleep, lambda exc: exc.code() in _AWAY)


def joined(
    open_stream: Callable[[], Any],
    notice: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[T]:
    """The same for an operation that goes on without its caller. An error with a reason of its own is its outcome."""
    return _reopened(open_stream, notice, sleep, lambda exc: exc.code() in _AWAY and error_info(exc).reason in _GOES_ON)


def _reopened(
    open_stream: Callable[[], Any],
    notice: Callable[[str], None],
    sleep: Callable[[float], None],
    is_away: Callable[[grpc.RpcError], bool],
) -> Iterator[T]:
    pause, away = _FIRST_PAUSE_SECONDS, False
    while True:
        opened = time.monotonic()
        call = open_stream()
        try:
            for message in call:
                if away:
                    notice("the service is back")
                    away = False
                yield message
        except grpc.RpcError as exc:
            if not is_away(exc):
                raise
        else:
            return
        finally:
            call.cancel()
        if not away:
            notice("the service is away; waiting for it (Ctrl-C ends this)")
            away = True
        if time.monotonic() - opened >= _STEADY_SECONDS:
            pause = _FIRST_PAUSE_SECONDS
        sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
