"""Checks of each bot's secrets: that the bot can read them, and nobody else."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence

from container_manager.bot_directories import BotUser
from container_manager.doctor.finding import Finding, Verdict
from container_manager.validation import is_bot_id

_NAME = "bots' secrets"
_NAMED = 3
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def check_bots_secrets(entries: Sequence[os.DirEntry[str]], user: BotUser) -> list[Finding]:
    """Findings about the directories of bots among the entries of the secrets root; bots are ``user`` of this host."""
    directories = [entry for entry in entries if is_bot_id(entry.name) and entry.is_dir(follow_symlinks=False)]
    owner = f"{user.uid}:{user.gid}"
    open_to_others, foreign, files = [], [], []
    for entry in directories:
        found = entry.stat(follow_symlinks=False)
        if found.st_mode & _OTHERS:
            open_to_others.append(entry.name)
        if found.st_uid != user.uid:
            foreign.append(entry.name)
        files += [f"{entry.name}/{name}" for name in _unfit_files(entry.path, user)]
    remedy = f"chown -R {owner} each, chmod 0700 it and chmod 0600 its files; or write them with PutSecrets"
    return [
        Finding(_NAME, Verdict.WARNING, f"{named(names)} {fault}", remedy)
        for names, fault in (
            (open_to_others, "can be entered by users other than their owner"),
            (foreign, f"do not belong to the bots' user {owner}, and a bot with that user cannot enter them"),
            (files, "are not regular files with mode 0600 of that user, and OpenClaw refuses them"),
        )
        if names
    ]


def named(names: Sequence[str]) -> str:
    """Some of the names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(ascii(name) for name in names[:_NAMED]) + more


def _unfit_files(directory: str, user: BotUser) -> Iterator[str]:
    try:
        files = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError:
        # This user may not look inside, and its directory says who may.
        return
    for file in files:
        found = file.stat(follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode) or found.st_mode & _OTHERS or found.st_uid != user.uid:
            yield file.name
