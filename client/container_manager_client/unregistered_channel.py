"""A channel whose calls raise :class:`ValueError` once it is closed."""

from __future__ import annotations

from typing import Any, Self

import grpc


class UnregisteredChannel(grpc.Channel):
    """Passes calls on without gRPC's handles for known methods.

    An intercepted channel looks up such a handle at each call, and on a closed channel that ends the whole process
    with a segmentation fault (grpc/grpc#43455).
    """

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def unary_unary(self, method: str, *codecs: Any, **_: Any) -> grpc.UnaryUnaryMultiCallable[Any, Any]:
        return self._channel.unary_unary(method, *codecs[:2])

    def unary_stream(self, method: str, *codecs: Any, **_: Any) -> grpc.UnaryStreamMultiCallable[Any, Any]:
        return self._channel.unary_stream(method, *codecs[:2])

    def stream_unary(self, method: str, *codecs: Any, **_: Any) -> grpc.StreamUnaryMultiCallable[Any, Any]:
        return self._channel.stream_unary(method, *codecs[:2])

    def stream_stream(self, method: str, *codecs: Any, **_: Any) -> grpc.StreamStreamMultiCallable[Any, Any]:
        return self._channel.stream_stream(method, *codecs[:2])

    def subscribe(self, callback: Any, try_to_connect: bool = False) -> None:
        self._channel.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Any) -> None:
        self._channel.unsubscribe(callback)

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
