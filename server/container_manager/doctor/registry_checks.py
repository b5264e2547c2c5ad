"""Checks of the file with the credentials of registries."""

from __future__ import annotations

import os

from container_manager.config import RegistryConfig
from container_manager.doctor.finding import Finding, Verdict
from container_manager.doctor.ownership import described
from container_manager.engine.registry_credentials import faults_of

_NAME = "registry credentials"


def check_registry_config(config: RegistryConfig) -> list[Finding]:
    """Whether each pull can read its credentials, and nobody else can read the file."""
    path = config.path
    if not config.required and not os.access(path, os.F_OK):
        return [Finding(_NAME, Verdict.OK, f"there is no {path}; pulls are anonymous")]
    findings = [
        Finding(_NAME, Verdict.FAILED, f"{fault}; pulls that need it fail", "correct it, for example with docker login")
        for fault in faults_of(config)
    ]
    try:
        found = path.stat()
    except OSError:
        return findings
    if found.st_mode & 0o077 or found.st_uid not in (0, os.geteuid()):
        remedy = f"chown {os.geteuid()} {path} && chmod 0600 {path}; if others may have read it, change the passwords"
        findings.append(
            Finding(_NAME, Verdict.WARNING, f"{path}, {described(found)}: others have rights to it", remedy)
        )
    return findings or [Finding(_NAME, Verdict.OK, f"{path}, {described(found)}")]
