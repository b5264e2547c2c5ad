"""Runs ``botctl`` in the test's own process."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

from click.testing import CliRunner, Result

from botctl.exit_codes import ExitCode
from botctl.program import botctl
from botctl.tls_files import TLS_VARIABLES

Run = Callable[..., Result]
# Before 8.2, click has an option to separate the outputs.
_APART: dict[str, Any] = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
VARIABLES = ("BOTCTL_TARGET", "BOTCTL_TOKEN_FILE", *TLS_VARIABLES.values(), "NO_COLOR", "FORCE_COLOR")


def run(*arguments: str, **environment: str) -> Result:
    """Run with this environment only."""
    env: dict[str, str | None] = {**dict.fromkeys(VARIABLES), **environment}
    result = CliRunner(**_APART).invoke(botctl, list(arguments), env=env, prog_name="botctl")
    assert isinstance(result.exception, SystemExit | None), result.exc_info
    return result


def complaint(result: Result, code: ExitCode) -> str:
    """The single line of a failed run."""
    assert code == result.exit_code, result.output
    lines = result.stderr.strip().splitlines()
    assert lines[-1].startswith("Error: ")
    assert lines[:-1] == [] or lines[0].startswith("Usage: "), lines
    return lines[-1].removeprefix("Error: ")


def document(result: Result) -> Any:
    """The single JSON document that the run wrote."""
    return json.loads(result.stdout)


def documents(result: Result) -> list[Any]:
    """The JSON lines that the run wrote."""
    return [json.loads(line) for line in result.stdout.splitlines()]
