"""``container-manager doctor``."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import click

from container_manager.cli.options import server_options
from container_manager.cli.server_config import server_config

_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}


@click.command()
@server_options
def doctor(**options: Any) -> None:
    """Check the engine, the roots, the socket, the clock and the disk, and say how to fix each problem.

    Give it the options of `serve`, and run it as the same user. It changes nothing. The exit status is 1 when a check
    has failed, and 0 when there are only warnings.
    """
    config = server_config(options, check_roots=False)
    from container_manager.doctor import Verdict, diagnose

    findings = asyncio.run(diagnose(config))
    # Colours only on a terminal, and not with NO_COLOR (no-color.org), as in botctl.
    colours = False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        verdict = click.style(f"{finding.verdict.value:8}", fg=_COLOURS[finding.verdict.value])
        click.echo(f"{verdict}{finding.name:{width}}  {finding.detail}", color=colours)
        if finding.remedy:
            click.echo(f"{'':{8 + width}}  -> {finding.remedy}")
    if any(finding.verdict is Verdict.FAILED for finding in findings):
        raise SystemExit(1)
