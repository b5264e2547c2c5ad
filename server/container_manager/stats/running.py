"""The containers that run, as the modules of this package share them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Figures(NamedTuple):
    """A container's figures."""

    message: bytes
    """Encoded."""
    time: float
    """Their sample began at this time of the loop's clock, or later."""


@dataclass(slots=True, eq=False)
class Running:
    """A container that runs. Once it has ended and runs again, that is another object."""

    container_id: str
    bot_id: str
    number: int
    """No other container that runs has it. Small, so that watchers need one byte for each container."""
    started_ns: int | None
    """When it was last started, in nanoseconds since the epoch; ``None``: unknown."""
    figures: Figures | None = None
    """The newest of this run, whoever asked for them."""
    unresponsive: bool = False
    """Its last sample took long and failed."""
