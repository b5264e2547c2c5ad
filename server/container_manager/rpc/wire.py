"""Protobuf's wire form of messages that hold a status which is encoded already (protobuf.dev, Encoding).

A status is encoded once for each change of a container, and then told any number of times.
"""

from __future__ import annotations

from collections.abc import Iterable

from container_manager.model import ContainerStatus
from container_manager.rpc.manager_codec import status_to_proto

_LENGTH_DELIMITED = 2
# GetContainerStatusResponse.status and ListManagedContainersResponse.containers have the same number, so that what is
# kept of a status is the one's whole message and the other's part.
STATUS_FIELD = 1


def encoded_status(status: ContainerStatus) -> bytes:
    """The status as field :data:`STATUS_FIELD` of the message around it."""
    data = status_to_proto(status).SerializeToString()
    return _tag(STATUS_FIELD) + _varint(len(data)) + data


def joined(statuses: Iterable[bytes]) -> bytes:
    """The message that repeats them."""
    return b"".join(statuses)


def as_field(number: int, status: bytes) -> bytes:
    """An encoded status as another field (1 to 15) than :data:`STATUS_FIELD`."""
    return _tag(number) + status[1:]


def _tag(number: int) -> bytes:
    return bytes(((number << 3) | _LENGTH_DELIMITED,))


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
