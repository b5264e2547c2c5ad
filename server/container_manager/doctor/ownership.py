"""Modes, owners and groups as text."""

from __future__ import annotations

import grp
import os
import pwd
import stat


def described(found: os.stat_result) -> str:
    """Mode, owner and group as ``ls -l`` shows them."""
    return f"{stat.S_IMODE(found.st_mode):04o} {user_name(found.st_uid)}:{group_name(found.st_gid)}"


def user_name(uid: int) -> str:
    """The user's name, or the number if it has no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """The group's name, or the number if it has no name."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
