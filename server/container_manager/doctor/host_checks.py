"""Checks of the secrets root, the state root, the token file and free disk space."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from container_manager.doctor.finding import Finding, Verdict
from container_manager.doctor.ownership import described
from container_manager.provisioning.kept_tokens import KEPT_DIRECTORY
from container_manager.provisioning.staging import STAGING_PREFIX
from container_manager.root_ownership import fault_of_root, faults_above
from container_manager.validation import is_bot_id

_DISK_WARNING_SHARE = 0.10
_DISK_FAILED_SHARE = 0.02
_NAMED = 3


def check_root(what: str, path: Path, *, secret: bool) -> list[Finding]:
    """Findings about the ``what`` root. ``secret``: only the owner of a directory in it may enter that directory."""
    name = f"{what} root"
    try:
        found = path.stat()
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except FileNotFoundError:
        return [Finding(name, Verdict.FAILED, f"{path} does not exist", f"install -d -m 0711 {path}")]
    except NotADirectoryError:
        return [Finding(name, Verdict.FAILED, f"{path} is not a directory", f"give another --{what}-root")]
    except OSError as exc:
        return [Finding(name, Verdict.FAILED, f"{path} cannot be read: {exc.strerror}", "run it as its owner")]
    seen = f"{path}, {described(found)}, {len(entries)} entries"
    if fault := fault_of_root(found):
        remedy = f"chown {os.geteuid()} {path}; chmod go-w {path}"
        findings = [Finding(name, Verdict.FAILED, f"{seen}: it {fault}", remedy)]
    else:
        findings = [Finding(name, Verdict.OK, seen)]
    for above in faults_above(path):
        remedy = "let only root write there, or give another directory"
        findings.append(Finding(name, Verdict.WARNING, f"{above}, and so others can replace {path}", remedy))
    findings += _entries(name, entries, secret=secret)
    return findings


def check_disk(name: str, path: Path) -> Finding:
    """Free space on the file system of ``path``."""
    try:
        usage = shutil.disk_usage(path)
    except OSError as exc:
        return Finding(name, Verdict.WARNING, f"{path} cannot be read: {exc.strerror}", "see the check of that root")
    share = usage.free / usage.total if usage.total else 0.0
    detail = f"{usage.free / 1e9:,.1f} GB free at {path} ({share:.0%})"
    if share >= _DISK_WARNING_SHARE:
        return Finding(name, Verdict.OK, detail)
    verdict = Verdict.FAILED if share < _DISK_FAILED_SHARE else Verdict.WARNING
    return Finding(name, verdict, detail, "free disk space: on a full disk creates fail and logs are lost")


def check_token_file(path: Path) -> Finding:
    """The file with the token of the TCP listeners."""
    name = "token file"
    try:
        found = path.lstat()
    except FileNotFoundError:
        if path.parent.is_dir():
            return Finding(name, Verdict.OK, f"{path} does not exist yet; the first start creates it")
        return Finding(
            name, Verdict.FAILED, f"there is no directory {path.parent}", f"install -d -m 0700 {path.parent}"
        )
    except OSError as exc:
        return Finding(name, Verdict.FAILED, f"{path}: {exc.strerror}", "run it as a user that may read it")
    if not stat.S_ISREG(found.st_mode):
        return Finding(name, Verdict.FAILED, f"{path} is not a regular file", "give another --token-file")
    if found.st_mode & 0o077 or found.st_uid != os.geteuid():
        remedy = f"chown {os.geteuid()} {path} && chmod 0600 {path}; if others may have read it, delete it"
        return Finding(name, Verdict.FAILED, f"{path}, {described(found)}: other users have rights to it", remedy)
    return Finding(name, Verdict.OK, f"{path}, {described(found)}")


def _entries(name: str, entries: list[os.DirEntry[str]], *, secret: bool) -> list[Finding]:
    # The service's own.
    entries = [entry for entry in entries if not entry.name.startswith((STAGING_PREFIX, KEPT_DIRECTORY))]
    links = [entry.name for entry in entries if entry.is_symlink()]
    strange = [entry.name for entry in entries if entry.name not in links and not is_bot_id(entry.name)]
    # The directory's mode keeps other users away from the files in it.
    directories = [entry for entry in entries if is_bot_id(entry.name) and entry.is_dir(follow_symlinks=False)]
    read = [entry.name for entry in directories if entry.stat(follow_symlinks=False).st_mode & 0o077] if secret else []
    findings = []
    if links:
        detail = f"{_named(links)} are symbolic links, which are never followed"
        findings.append(Finding(name, Verdict.WARNING, detail, "replace them by the directories themselves"))
    if strange:
        detail = f"{_named(strange)} do not have a bot id as their name, and no bot uses them"
        findings.append(Finding(name, Verdict.WARNING, detail, "move them away"))
    if read:
        detail = f"{_named(read)} can be entered by users other than their owner"
        findings.append(Finding(name, Verdict.WARNING, detail, "chmod 0700 each, with the bot's user as its owner"))
    return findings


def _named(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(ascii(name) for name in names[:_NAMED]) + more
