"""``container-manager doctor`` reports its findings: a line for each, the remedy below, and an exit status."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from container_manager import doctor
from container_manager.cli import main
from container_manager.doctor import Finding, Verdict

OK = Finding("clock", Verdict.OK, "agrees")
WARNING = Finding("storage driver", Verdict.WARNING, "vfs", "use another")
FAILED = Finding("engine", Verdict.FAILED, "is away", "start it")


def run(
    monkeypatch: pytest.MonkeyPatch, *findings: Finding, terminal: bool = False, arguments: str = "", **environment: str
) -> Result:
    async def diagnose(_: object, *, running: bool) -> list[Finding]:
        assert running is ("--running" in arguments)
        return list(findings)

    monkeypatch.setattr(doctor, "diagnose", diagnose)
    env = {"NO_COLOR": None, "TERM": "xterm", **environment}
    return CliRunner().invoke(main, ["doctor", *arguments.split()], env=env, color=terminal)


def test_each_finding_is_a_line_with_its_verdict_and_its_remedy_below(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = run(monkeypatch, OK, WARNING, FAILED).stdout.splitlines()
    assert [
        "ok      clock           agrees",
        "warning storage driver  vfs",
        "                        -> use another",
        "failed  engine          is away",
        "                        -> start it",
    ] == lines


def test_a_text_of_the_engine_is_one_line_and_commands_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = Finding("engine", Verdict.FAILED, "a\x1b[2J\x9b2J\nb", "c\u202e")
    lines = run(monkeypatch, finding, terminal=True, NO_COLOR="1").stdout.splitlines()
    assert [r"failed  engine  a\x1b[2J\x9b2J\nb", r"                -> c\u202e"] == lines


def test_the_findings_are_one_array_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, OK, FAILED, arguments="--running -o json")
    assert 1 == result.exit_code
    assert [
        {"check": "clock", "verdict": "ok", "detail": "agrees", "remedy": None},
        {"check": "engine", "verdict": "failed", "detail": "is away", "remedy": "start it"},
    ] == json.loads(result.stdout)


@pytest.mark.parametrize(
    ("findings", "status"), [((OK,), 0), ((OK, WARNING), 0), ((OK, FAILED), 1), ((FAILED, WARNING, OK), 1)]
)
def test_the_exit_status_is_1_where_something_has_failed(
    monkeypatch: pytest.MonkeyPatch, findings: tuple[Finding, ...], status: int
) -> None:
    assert status == run(monkeypatch, *findings).exit_code


@pytest.mark.parametrize(
    ("terminal", "environment", "coloured"),
    [(True, {}, True), (False, {}, False), (True, {"NO_COLOR": "1"}, False), (True, {"TERM": "dumb"}, False)],
    ids=["terminal", "pipe", "NO_COLOR", "dumb terminal"],
)
def test_colours_are_for_terminals_that_want_them(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, environment: dict[str, str], coloured: bool
) -> None:
    shown = run(monkeypatch, FAILED, terminal=terminal, **environment).stdout
    assert coloured == ("\x1b[31mfailed" in shown)
    assert coloured == ("\x1b" in shown)
