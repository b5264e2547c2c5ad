"""Streams that go on when the service, or its engine, was away for a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import grpc

T = TypeVar("T")

# CANCELLED and DEADLINE_EXCEEDED: a service that ends, and an engine that does.
_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 2.0


def resumed(
    open_stream: Callable[[], Any],
    notice: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[T]:
    """The messages of a stream that is opened anew, as often as it takes, until it ends by itself.

    ``open_stream`` makes a call that goes on where the last one broke. That the service is there must have been seen
    before: here its absence is waited for, not told as an error. Other errors are raised.
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
