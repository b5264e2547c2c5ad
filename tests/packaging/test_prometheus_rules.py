"""The alerts of deploy/prometheus/rules.yml, by promtool: each fires at its first event, and not before."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from tests.docs.documents import read
from tests.support.prometheus import RULES, prometheus_program

ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
}
JOB = 'job="container-manager",instance="a"'
LAG = f"container_manager_event_loop_lag_seconds_bucket{{{JOB},le="
ENGINE = f'container_manager_engine_call_duration_seconds_bucket{{{JOB},operation="inspect_container",outcome="ok",le='


class Case(NamedTuple):
    """Series in promtool's notation, a scrape each minute; the alert is quiet, or fires, at this minute."""

    alert: str
    series: dict[str, str]
    minute: int
    outcome: Literal["quiet", "fires"]


def counted(alert: str, metric: str, least: int, labels: str = "") -> list[Case]:
    """The cases of an alert that fires when a counter has grown by ``least``."""
    name = f"{metric}{{{JOB}{labels}}}"
    event = f"0x69 {least}x9"
    return [
        # One less, although `increase()` extrapolates.
        Case(alert, {name: f"0x69 {least - 1}x9"}, 70, "quiet"),
        Case(alert, {name: f"_x70 {least - 1}x9"}, 70, "quiet"),
        Case(alert, {name: event}, 69, "quiet"),
        Case(alert, {name: event}, 70, "fires"),
        Case(alert, {name: f"70x69 {70 + least - 1}x9"}, 70, "quiet"),
        # The service was new, and all of it happened before the first scrape.
        Case(alert, {name: f"_x70 {least}x9"}, 70, "fires"),
        # It was restarted, and the event came before the next scrape.
        Case(alert, {name: f"{least + 9}x69 {least}x9"}, 70, "fires"),
    ]


def slow(alert: str, bucket: str, fast: str, slow: str) -> list[Case]:
    """The cases of an alert about the 99th percentile of a histogram."""
    ends = {f'{bucket}"{slow}"}}': "0+100x20", f'{bucket}"+Inf"}}': "0+100x20"}
    return [
        Case(alert, {f'{bucket}"{fast}"}}': "0+100x20", **ends}, 16, "quiet"),
        Case(alert, {f'{bucket}"{fast}"}}': "0+50x20", **ends}, 16, "fires"),
    ]


UP, IN_SYNC = f"up{{{JOB}}}", f"container_manager_view_in_sync{{{JOB}}}"
OTHER_CODE = f'container_manager_rpcs_total{{{JOB},code="OK"}}'
STOPPED = f'container_manager_bot_exits_total{{{JOB},reason="KILLED"}}'
PULLED = f'container_manager_pulls_total{{{JOB},outcome="ok"}}'
OPEN, MOST = f"process_open_fds{{{JOB}}}", f"process_max_fds{{{JOB}}}"
OF_ANOTHER_JOB = {'process_open_fds{job="other"}': "99x20", 'process_max_fds{job="other"}': "100x20"}
LOST = f'container_manager_spans_dropped_total{{{JOB},reason="x"}}'
CASES = [
    Case("ContainerManagerDown", {UP: "1x9"}, 3, "quiet"),
    Case("ContainerManagerDown", {UP: "1x3 0x9"}, 5, "fires"),
    Case("ContainerManagerDown", {}, 3, "fires"),
    Case("ContainerManagerEngineDown", {IN_SYNC: "1x3 0 1x9"}, 5, "quiet"),
    Case("ContainerManagerEngineDown", {IN_SYNC: "1x3 0x9"}, 5, "fires"),
    *counted("ContainerManagerEngineUnstable", "container_manager_event_reconnects_total", 4),
    *counted("ContainerManagerViewWrong", "container_manager_view_drift_total", 1),
    *counted("ContainerManagerInternalError", "container_manager_rpcs_total", 1, ',code="INTERNAL",method="X"'),
    Case("ContainerManagerInternalError", {OTHER_CODE: "0+9x79"}, 70, "quiet"),
    *counted("ContainerManagerBotCrashed", "container_manager_bot_exits_total", 1, ',reason="ERROR"'),
    *counted("ContainerManagerBotCrashed", "container_manager_bot_exits_total", 1, ',reason="OOM_KILLED"'),
    Case("ContainerManagerBotCrashed", {STOPPED: "0+9x79"}, 70, "quiet"),
    *counted("ContainerManagerBotsCrashAgainAndAgain", "container_manager_bot_restarts_total", 11),
    *counted("ContainerManagerPullFailed", "container_manager_pulls_total", 1, ',outcome="not_found"'),
    Case("ContainerManagerPullFailed", {PULLED: "0+9x79"}, 70, "quiet"),
    *counted("ContainerManagerCallsRefused", "container_manager_rpcs_total", 1, ',code="RESOURCE_EXHAUSTED"'),
    *counted("ContainerManagerUnauthenticatedCalls", "container_manager_rpcs_total", 11, ',code="UNAUTHENTICATED"'),
    Case("ContainerManagerFileDescriptors", {OPEN: "80x20", MOST: "100x20", **OF_ANOTHER_JOB}, 6, "quiet"),
    Case("ContainerManagerFileDescriptors", {OPEN: "81x20", MOST: "100x20"}, 6, "fires"),
    *slow("ContainerManagerOverloaded", LAG, "0.1", "0.5"),
    *slow("ContainerManagerEngineSlow", ENGINE, "1", "2.5"),
    Case("ContainerManagerSpansLost", {LOST: "0x40"}, 30, "quiet"),
    Case("ContainerManagerSpansLost", {LOST: "0+1x40"}, 30, "fires"),
]


def test_promtool_accepts_the_rules() -> None:
    command = [prometheus_program("promtool"), "check", "rules", "--lint-fatal", str(RULES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr


def test_each_alert_fires_at_its_first_event_and_not_without_one(tmp_path: Path) -> None:
    outcomes = {alert: {case.outcome for case in CASES if case.alert == alert} for alert in ALERTS}
    assert {alert: {"quiet", "fires"} for alert in ALERTS} == outcomes
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{case.alert}",alertstate="firing"}}) or vector(0)',
                    "eval_time": f"{case.minute}m",
                    "exp_samples": [{"labels": "{}", "value": int(case.outcome == "fires")}],
                }
            ],
        }
        for case in CASES
    ]
    document = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(document))
    command = [prometheus_program("promtool"), "test", "rules", str(tmp_path / "tests.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr


def test_the_documents_say_what_to_do_about_each_alert() -> None:
    section = read("docs/observability.md").partition("### Alerts")[2]
    rows = re.findall(r"^\| `(\w+)` \|[^|]+\| [^|]+ \|$", section, re.MULTILINE)
    assert list(ALERTS) == rows


def test_every_alert_says_what_has_happened_and_how_bad_it_is() -> None:
    for rule in ALERTS.values():
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"]["summary"].endswith((".", ")."))
