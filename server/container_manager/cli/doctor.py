"""``container-manager doctor``."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from container_manager.cli.options import server_options
from container_manager.cli.server_config import server_config

if TYPE_CHECKING:
    from container_manager.doctor import Finding

_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}


@click.command()
@click.option("--running", is_flag=True, help="The service runs: its addresses must be served instead of free.")
@click.option(
    "--output",
    "-o",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Output format; json is one array.",
)
@server_options
def doctor(*, running: bool, output: str, **options: Any) -> None:
    """Check the engine, the roots, the listeners, the clock and the disk, and say how to fix each problem.

    Give it the options of `serve`, and run it as the same user: before a start, or with --running beside the service.
    It changes nothing. The exit status is 1 when a check has failed, and 0 when there are only warnings.
    """
    config = server_config(options, check_roots=False)
    from container_manager.doctor import Verdict, diagnose

    findings = asyncio.run(diagnose(config, running=running))
    if output == "json":
        click.echo(json.dumps([_document(finding) for finding in findings], indent=2))
    else:
        _print(findings)
    if any(finding.verdict is Verdict.FAILED for finding in findings):
        raise SystemExit(1)


def _document(finding: Finding) -> dict[str, str | None]:
    return {
        "check": finding.name,
        "verdict": finding.verdict.value,
        "detail": finding.detail,
        "remedy": finding.remedy or None,
    }


def _print(findings: Sequence[Finding]) -> None:
    from container_manager.observability.log_format import escaped

    # Colours only on a terminal, and not with NO_COLOR (no-color.org), as in botctl.
    colours = False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        verdict = click.style(f"{finding.verdict.value:8}", fg=_COLOURS[finding.verdict.value])
        # A detail may have the engine's text.
        click.echo(f"{verdict}{finding.name:{width}}  {escaped(finding.detail)}", color=colours)
        if finding.remedy:
            click.echo(f"{'':{8 + width}}  -> {escaped(finding.remedy)}")
