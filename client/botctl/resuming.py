"""Resumes streams after the service or its engine was unavailable."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import grpc

T = TypeVar("T")

# CANCELLED: the service shuts down. DEADLINE_EXCEEDED: the engine stops answering.
_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 2.0


def resumed(
    open_stream: Callable[[], Any],
    notice: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[T]:
    """Yields the messages of a stream, and reopens it whenever it breaks, until it ends by itself.

    ``open_stream`` opens a stream that continues where the last one broke. If the service is unavailable, this waits
    for it and raises no error, so check beforehand that the service exists. Other errors are raised.
    """
    pause, away = _FIRST_PAUSE_SECONDS, False
    while True:
        call = open_stream()
        try:
            for message in call:
                if away:
                    notice("the service is back")
                pause, away = _FIRST_PAUSE_SECONDS, False
                yield message
        except grpc.RpcError as exc:
            if exc.code() not in _AWAY:
                raise
        else:
            return
        finally:
            call.cancel()
        if not away:
            notice("the service is away; waiting for it (Ctrl-C ends this)")
            away = True
        sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
