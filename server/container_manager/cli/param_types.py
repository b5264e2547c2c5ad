"""What values of options may be: types of click's parameters."""

from __future__ import annotations

import math
import re
from ipaddress import IPv4Network
from typing import Any

import click

from container_manager.bot_directories import BotUser, fault_of_state_mount
from container_manager.config import DEFAULT_NETWORK_POOL, SUBNET_BITS

# chown(2) takes the next number for "unchanged".
_MAX_ID = 2**32 - 2


class Seconds(click.FloatRange):
    """A finite number of seconds within bounds."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds = float(super().convert(value, param, ctx))
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return seconds


class Mode(click.ParamType):  # type: ignore[type-arg] # older ones have no parameter
    """A file mode in octal digits, as chmod takes it."""

    name = "mode"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if not re.fullmatch("[0-7]{3,4}", value):
            self.fail(f"{value!r} is not a mode in octal digits, such as 0660", param, ctx)
        return int(value, 8)


class User(click.ParamType):  # type: ignore[type-arg] # older ones have no parameter
    """A user and a group as numbers: ``UID:GID``."""

    name = "UID:GID"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> BotUser:
        numbers = re.fullmatch("([0-9]{1,10}):([0-9]{1,10})", value, re.ASCII)
        if numbers is None or max(int(numbers[1]), int(numbers[2])) > _MAX_ID:
            self.fail(f"{value!r} is not UID:GID in numbers, such as 1000:1000", param, ctx)
        return BotUser(int(numbers[1]), int(numbers[2]))


class StateMount(click.ParamType):  # type: ignore[type-arg] # older ones have no parameter
    """A path in bots' containers."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if fault := fault_of_state_mount(value):
            self.fail(f"{value!r} {fault}", param, ctx)
        return str(value)


class NetworkPool(click.ParamType):  # type: ignore[type-arg] # older ones have no parameter
    """A range of IPv4 addresses for networks."""

    name = "addresses"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> IPv4Network:
        try:
            pool = IPv4Network(value)
        except ValueError:
            self.fail(f"{value!r} is not a range of IPv4 addresses, such as {DEFAULT_NETWORK_POOL}", param, ctx)
        if pool.prefixlen > SUBNET_BITS or not pool.is_private:
            self.fail(f"{value!r} is not a range of private addresses of at least a /{SUBNET_BITS}", param, ctx)
        return pool
