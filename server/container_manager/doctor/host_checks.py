"""The roots of secrets and state, unix sockets and the token file, as they lie on the disk. Only looked at."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import socket
import stat
from pathlib import Path

from container_manager.doctor.finding import Finding, Verdict
from container_manager.root_ownership import fault_of_root, faults_above
from container_manager.validation import is_bot_id

_DISK_WARNING_SHARE = 0.10
_DISK_FAILED_SHARE = 0.02
_CONNECT_SECONDS = 1.0
_NAMED = 3


def check_root(what: str, path: Path, *, secret: bool) -> list[Finding]:
    """Findings about the ``what`` root; ``secret``: what lies in it is to be read by its owner alone."""
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
    described = f"{path}, {_described(found)}, {len(entries)} entries"
    if fault := fault_of_root(found):
        remedy = f"chown {os.geteuid()} {path}; chmod go-w {path}"
        findings = [Finding(name, Verdict.FAILED, f"{described}: it {fault}", remedy)]
    else:
        findings = [Finding(name, Verdict.OK, described)]
    for above in faults_above(path):
        remedy = "let nobody write there but root, or give another directory"
        findings.append(Finding(name, Verdict.WARNING, f"{above}, and so can exchange {path}", remedy))
    findings += _entries(name, entries, secret=secret)
    return findings


def check_disk(name: str, path: Path) -> Finding:
    """How much room is left on the file system of ``path``."""
    try:
        usage = shutil.disk_usage(path)
    except OSError as exc:
        return Finding(name, Verdict.WARNING, f"{path} cannot be looked at: {exc.strerror}", "see the root's own check")
    share = usage.free / usage.total if usage.total else 0.0
    detail = f"{usage.free / 1e9:,.1f} GB free at {path} ({share:.0%})"
    if share >= _DISK_WARNING_SHARE:
        return Finding(name, Verdict.OK, detail)
    verdict = Verdict.FAILED if share < _DISK_FAILED_SHARE else Verdict.WARNING
    return Finding(name, verdict, detail, "free some room: a full disk fails creates and loses logs")


def check_socket(path: Path) -> Finding:
    """The socket that is served or would be: who may come to it, and whether something answers there."""
    name = "socket"
    try:
        directory = path.parent.stat()
    except FileNotFoundError:
        return Finding(name, Verdict.OK, f"{path}: nothing there yet; its directory is made at start")
    except OSError as exc:
        return Finding(name, Verdict.FAILED, f"{path.parent}: {exc.strerror}", "run it as a user that may enter it")
    try:
        found = path.lstat()
    except OSError:
        found = None
    if found is not None and not stat.S_ISSOCK(found.st_mode):
        return Finding(name, Verdict.FAILED, f"{path} is no socket", "move it away, or give another --listen")
    answers = found is not None and _answers(path)
    there = "nothing there yet"
    if found is not None:
        there = f"{_described(found)}, {'a server answers' if answers else 'no server answers'}"
    if found is not None and found.st_mode & stat.S_IWOTH and directory.st_mode & stat.S_IXOTH:
        remedy = f"chmod o-rwx {path}; whoever opens it controls every bot"
        return Finding(name, Verdict.FAILED, f"{path}: {there}: anybody may open it", remedy)
    if directory.st_mode & stat.S_IXOTH:
        detail = f"{path}: {there}; anybody may enter {path.parent}, only the socket's own mode keeps others out"
        return Finding(name, Verdict.WARNING, detail, f"chmod o-rwx {path.parent}, or use a directory of its own")
    return Finding(name, Verdict.OK, f"{path}: {there}")


def check_token_file(path: Path) -> Finding:
    """The file with the TCP listeners' token."""
    name = "token file"
    try:
        found = path.lstat()
    except FileNotFoundError:
        if path.parent.is_dir():
            return Finding(name, Verdict.OK, f"{path} is made at first start")
        return Finding(
            name, Verdict.FAILED, f"there is no directory {path.parent}", f"install -d -m 0700 {path.parent}"
        )
    except OSError as exc:
        return Finding(name, Verdict.FAILED, f"{path}: {exc.strerror}", "run it as a user that may read it")
    if not stat.S_ISREG(found.st_mode):
        return Finding(name, Verdict.FAILED, f"{path} is no regular file", "give another --token-file")
    if found.st_mode & 0o077 or found.st_uid != os.geteuid():
        remedy = (
            f"chown {os.geteuid()} {path} && chmod 0600 {path}; if others may have read it, delete it for a new one"
        )
        return Finding(name, Verdict.FAILED, f"{path}, {_described(found)}: others have rights to it", remedy)
    return Finding(name, Verdict.OK, f"{path}, {_described(found)}")


def _entries(name: str, entries: list[os.DirEntry[str]], *, secret: bool) -> list[Finding]:
    links = [entry.name for entry in entries if entry.is_symlink()]
    strange = [entry.name for entry in entries if entry.name not in links and not is_bot_id(entry.name)]
    # The directory's mode is what keeps others from the files in it.
    directories = [entry for entry in entries if is_bot_id(entry.name) and entry.is_dir(follow_symlinks=False)]
    read = [entry.name for entry in directories if entry.stat(follow_symlinks=False).st_mode & 0o077] if secret else []
    findings = []
    if links:
        detail = f"{_named(links)} are symbolic links, which are never followed"
        findings.append(Finding(name, Verdict.WARNING, detail, "put the directories themselves there"))
    if strange:
        detail = f"{_named(strange)} are not named by a bot id, and no bot uses them"
        findings.append(Finding(name, Verdict.WARNING, detail, "move them away"))
    if read:
        detail = f"{_named(read)} can be entered by others than their owner"
        findings.append(Finding(name, Verdict.WARNING, detail, "chmod 0700 each, with the bot's user as its owner"))
    return findings


def _named(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(ascii(name) for name in names[:_NAMED]) + more


def _described(found: os.stat_result) -> str:
    """Mode, owner and group as ``ls -l`` shows them."""
    return f"{stat.S_IMODE(found.st_mode):04o} {_user(found.st_uid)}:{_group(found.st_gid)}"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_CONNECT_SECONDS)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
