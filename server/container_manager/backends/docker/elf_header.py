"""Reads what the kernel needs to know of an ELF program (elf(5))."""

from __future__ import annotations

import struct
from typing import NamedTuple

# By the class: e_type, e_machine, e_phoff, e_phentsize, e_phnum; p_type, p_offset, p_filesz.
_FORMATS = {1: ("HH8xI10xHH", "II8xI"), 2: ("HH12xQ14xHH", "I4xQ16xQ")}
_ORDERS = {1: "<", 2: ">"}
_PT_INTERP = 3


class ElfHeader(NamedTuple):
    """What execve(2) reads of an ELF program (elf(5))."""

    kind: int
    machine: int
    loader: str
    """The dynamic loader; empty: none, or not in the bytes that were read."""

    @classmethod
    def of(cls, content: bytes) -> ElfHeader:
        """Raises ``LookupError`` or ``struct.error`` for a header that is no ELF program's."""
        order, (header, entry) = _ORDERS[content[5]], _FORMATS[content[4]]
        kind, machine, table, size, count = struct.unpack_from(order + header, content, 16)
        loader = b""
        for number in range(count):
            at = table + number * size
            if at + struct.calcsize(order + entry) > len(content):
                break
            kind_of_entry, begin, length = struct.unpack_from(order + entry, content, at)
            if kind_of_entry == _PT_INTERP and begin + length <= len(content):
                loader = content[begin : begin + length].rstrip(b"\0")
        return cls(kind, machine, loader.decode("utf-8", "surrogateescape"))
