"""Protobuf's wire form (protobuf.dev, Encoding), and messages around a status that is already encoded.

A status is encoded once for each change of a container, and then sent any number of times.
"""

from __future__ import annotations

from collections.abc import Iterable

from container_manager.model import ContainerStatus
from container_manager.rpc.manager_codec import status_to_proto

VARINT, LENGTH_DELIMITED = 0, 2
STATUS_FIELD = 1
"""The number of both GetContainerStatusResponse.status and ListManagedContainersResponse.containers, so that an encoded
status is the whole of the one message and a part of the other."""


def encoded_status(status: ContainerStatus) -> bytes:
    """The status as field :data:`STATUS_FIELD` of a message."""
    return field(STATUS_FIELD, status_to_proto(status).SerializeToString())


def field(number: int, message: bytes) -> bytes:
    """An encoded message as the field ``number``, 1 to 15, of another one."""
    return tag(number, LENGTH_DELIMITED) + varint(len(message)) + message


def joined(statuses: Iterable[bytes]) -> bytes:
    """The ListManagedContainersResponse with these encoded statuses."""
    return b"".join(statuses)


def as_field(number: int, status: bytes) -> bytes:
    """An encoded status as the field ``number``, 1 to 15, instead of :data:`STATUS_FIELD`."""
    return tag(number, LENGTH_DELIMITED) + status[1:]


def tag(number: int, wire_type: int) -> bytes:
    """What precedes a field's value. ``number``: 1 to 15."""
    return bytes(((number << 3) | wire_type,))


def varint(number: int) -> bytes:
    """An integer; a negative one in two's complement, as int32 and int64 have it."""
    encoded = bytearray()
    number &= 0xFFFF_FFFF_FFFF_FFFF
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
