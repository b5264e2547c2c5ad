"""The table of metrics in the documentation beside what a service exposes."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import parser

from container_manager.backends.docker.backend import DockerBackend
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig, ServerConfig, TracingConfig
from container_manager.rpc.server import Server
from tests.support.scraping import scrape

DOCUMENT = (Path(__file__).parents[2] / "docs" / "observability.md").read_text()
ROW = re.compile(r"^\| `([a-z_]+)` \| (gauge|counter|histogram) \|(.*?)\| (.+) \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The metrics of a service with everything on, after a call of each kind."""
    root = tmp_path_factory.mktemp("documented")
    config = ServerConfig(
        service=BackendConfig(secrets_root=RootDirectory(root, root), docker_host=f"unix://{root}/none.sock"),
        listen=(),
        metrics_listen="127.0.0.1:0",
        tracing=TracingConfig("http://127.0.0.1:9", "the test"),
        drain_seconds=0,
    )

    async def run() -> str:
        server = Server(config, partial(DockerBackend, config.service))
        await server.start()
        try:
            accounting = server.telemetry.accounting
            method = accounting.method("/grpc.health.v1.Health/Check")
            accounting.end(method, accounting.begin(method, []), "OK")
            observer = server.telemetry.engine_observer
            assert observer is not None
            observer("ping", "ok", 0, 0.001)
            return await asyncio.to_thread(scrape, server.telemetry.metrics_url)
        finally:
            await server.stop(0)

    return list(parser.text_string_to_metric_families(asyncio.run(run())))


def documented() -> dict[str, tuple[str, set[str]]]:
    """Type and labels of each metric in the table."""
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _ in ROW.findall(DOCUMENT)}


def test_the_table_has_exactly_the_metrics_that_are_exposed(exposed: list[Any]) -> None:
    found = {
        f"{family.name}_total" if family.type == "counter" else family.name: (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in exposed
    }
    assert found == documented()


def test_every_metric_says_what_it_is(exposed: list[Any]) -> None:
    assert [] == [family.name for family in exposed if not family.documentation]


def test_queries_and_alerts_name_metrics_that_there_are() -> None:
    # But for what is Python's.
    text = re.sub(r"^```python\n.*?^```$", "", DOCUMENT, flags=re.MULTILINE | re.DOTALL).replace("`process_`", "")
    named = set(re.findall(r"\b(?:container_manager|process)_[a-z_]+", text))
    of_series = {re.sub("_(count|sum|bucket)$", "", name) for name in named}
    assert set() == of_series - set(documented())


def test_the_reasons_kinds_and_outcomes_that_are_documented_are_those_that_there_are(exposed: list[Any]) -> None:
    meanings = {name: meaning for name, _, _, meaning in ROW.findall(DOCUMENT)}
    # The outcomes of pulls are those of all engine calls.
    meanings["container_manager_pulls_total"] = meanings["container_manager_engine_call_duration_seconds"]
    for label, metric in (
        ("reason", "container_manager_spans_dropped_total"),
        ("kind", "container_manager_streams_open"),
        ("reason", "container_manager_bot_exits_total"),
        ("state", "container_manager_bots"),
        ("outcome", "container_manager_pulls_total"),
        ("outcome", "container_manager_bot_ready_seconds"),
    ):
        [family] = [each for each in exposed if each.name == metric.removesuffix("_total")]
        values = {sample.labels[label] for sample in family.samples}
        assert values
        assert values <= set(re.findall(r"`(\w+)`", meanings[metric])), metric
