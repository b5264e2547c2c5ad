"""Modes, owners and groups in words."""

from __future__ import annotations

import grp
import os
import pwd
import stat


def described(found: os.stat_result) -> str:
    """Mode, owner and group as ``ls -l`` shows them."""
    return f"{stat.S_IMODE(found.st_mode):04o} {user_name(found.st_uid)}:{group_name(found.st_gid)}"


def user_name(uid: int) -> str:
    """A user's name, or the number of one that has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """A group's name, or the number of one that has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
