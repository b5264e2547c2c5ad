"""Checks of the secrets root, the state root and free disk space."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from container_manager.bot_directories import BotUser
from container_manager.bot_locks import LOCK_FILE
from container_manager.doctor.finding import Finding, Verdict
from container_manager.doctor.ownership import described
from container_manager.doctor.secret_checks import check_bots_secrets, named
from container_manager.doctor.sizes import size_text
from container_manager.maintenance.journal import JOURNAL_DIRECTORY
from container_manager.provisioning.host_states import MAINTENANCE_DIRECTORY
from container_manager.provisioning.kept_tokens import KEPT_DIRECTORY
from container_manager.provisioning.staging import STAGING_PREFIX
from container_manager.root_ownership import UnusableRootError, check_usable, faults_above
from container_manager.validation import is_bot_id

_DISK_WARNING_SHARE = 0.10
_DISK_FAILED_SHARE = 0.02


# What the service itself keeps in a root, beside the directories of bots.
_OWN = (STAGING_PREFIX, KEPT_DIRECTORY, MAINTENANCE_DIRECTORY, JOURNAL_DIRECTORY, LOCK_FILE)


def check_root(what: str, path: Path, *, secrets_of: BotUser | None = None) -> list[Finding]:
    """Findings about the ``what`` root. ``secrets_of``: the directories in it are secrets, of this user."""
    name = f"{what} root"
    try:
        check_usable(path)
        found = path.stat()
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except UnusableRootError as exc:
        return [Finding(name, Verdict.FAILED, f"{path} {exc}", exc.remedy)]
    findings = [Finding(name, Verdict.OK, f"{path}, {described(found)}, {len(entries)} entries")]
    for above in faults_above(path):
        remedy = "let only root write there, or give another directory"
        findings.append(Finding(name, Verdict.WARNING, f"{above}, and so others can replace {path}", remedy))
    findings += _entries(name, entries)
    if secrets_of is not None:
        findings += check_bots_secrets(entries, secrets_of)
    return findings


def check_backup_root(path: Path) -> Finding:
    """The directory with the backups of bots, which have all that bots know."""
    try:
        check_usable(path, private=True)
    except UnusableRootError as exc:
        return Finding("backup root", Verdict.FAILED, f"{path} {exc}", exc.remedy)
    return Finding("backup root", Verdict.OK, f"{path}, {described(path.stat())}")


def check_disk(name: str, path: Path) -> Finding:
    """Free space on the file system of ``path``."""
    try:
        usage = shutil.disk_usage(path)
    except OSError as exc:
        return Finding(name, Verdict.WARNING, f"{path} cannot be read: {exc.strerror}", "see the check of that root")
    share = usage.free / usage.total if usage.total else 0.0
    detail = f"{size_text(usage.free)} free at {path} ({share:.0%})"
    if share >= _DISK_WARNING_SHARE:
        return Finding(name, Verdict.OK, detail)
    verdict = Verdict.FAILED if share < _DISK_FAILED_SHARE else Verdict.WARNING
    return Finding(name, verdict, detail, "free disk space: on a full disk creates fail and logs are lost")


def _entries(name: str, entries: list[os.DirEntry[str]]) -> list[Finding]:
    entries = [entry for entry in entries if not entry.name.startswith(_OWN)]
    links = [entry.name for entry in entries if entry.is_symlink()]
    strange = [entry.name for entry in entries if entry.name not in links and not is_bot_id(entry.name)]
    findings = []
    if links:
        detail = f"{named(links)} are symbolic links, which are never followed"
        findings.append(Finding(name, Verdict.WARNING, detail, "replace them by the directories themselves"))
    if strange:
        detail = f"{named(strange)} do not have a bot id as their name, and no bot uses them"
        findings.append(Finding(name, Verdict.WARNING, detail, "move them away"))
    return findings
