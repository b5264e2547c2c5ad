"""A real Prometheus, with the rules of deploy/, that scrapes a real service."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import docker

from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.config import BackendConfig, ServerConfig
from container_manager_client import connect
from tests.docs.documents import blocks
from tests.support.bots import Bots
from tests.support.calls import FOREVER, Calls
from tests.support.prometheus import metrics_relay, running_prometheus
from tests.support.serving import looped_server
from tests.support.waiting import wait_until

DOCUMENT = "docs/observability.md"


def documented_queries() -> list[str]:
    """The queries of the document; each follows a comment that says what it asks."""
    queries: list[str] = []
    for block in blocks(DOCUMENT):
        if block.language != "promql":
            continue
        for line in block.text.splitlines():
            if line.startswith("#"):
                queries.append("")
            else:
                queries[-1] += f"{line}\n"
    return queries


def test_every_documented_query_has_a_result_and_the_first_crash_of_a_bot_fires_its_alert(
    engine: docker.DockerClient, service_config: BackendConfig, session_dir: Path, bots: Bots
) -> None:
    directory = Path(tempfile.mkdtemp(prefix="p", dir=session_dir))
    metrics = directory / "m.sock"
    config = ServerConfig(service_config, (f"unix://{directory}/s.sock",), metrics_listen=f"unix://{metrics}")
    with (
        looped_server(config),
        # As in a container without a network.
        metrics_relay(metrics) as target,
        running_prometheus(directory, target) as prometheus,
        connect(config.listen[0]) as channel,
    ):
        wait_until(lambda: prometheus.query("container_manager_view_in_sync == 1"), "it has scraped the service")
        rpc, bot_id = Calls(ContainerManagerStub(channel)), bots.new()
        queries = documented_queries()
        assert 5 < len(queries)
        # A rate needs two samples of a series, with something between them.
        for _ in range(2):
            rpc.run(bot_id, *FOREVER)
            rpc.status(bot_id)
            rpc.remove(bot_id, grace=0)
            scraped = f"timestamp(container_manager_view_in_sync) > {prometheus.time()}"
            wait_until(partial(prometheus.query, scraped), "a scrape")
        for query in queries:
            wait_until(partial(prometheus.query, query), f"a result of {query}", 20)
        wait_until(lambda: prometheus.unhealthy_rules() == [], "every rule has been evaluated")
        assert set() == prometheus.firing()
        rpc.run(bots.new(), "sh", "-c", "exit 3")
        wait_until(lambda: "ContainerManagerBotCrashed" in prometheus.firing(), "the alert of the first crash")
