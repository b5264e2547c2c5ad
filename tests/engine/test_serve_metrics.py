"""``container-manager serve`` on the real engine with metrics and traces."""

from __future__ import annotations

import json
import re
import tempfile
import time
from pathlib import Path

import docker

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.config import BackendConfig
from container_manager_client import connect
from tests.support.bots import Bots
from tests.support.calls import FOREVER, Calls
from tests.support.scraping import ended, scrape, value
from tests.support.serving import server_process
from tests.support.span_receiver import SpanReceiver, attributes
from tests.support.waiting import wait_until

EXITS = "container_manager_bot_exits_total"
ENGINE_CALLS = "container_manager_engine_call_duration_seconds_count"


def test_calls_are_counted_logged_and_traced_down_to_the_engine(
    engine: docker.DockerClient, service_config: BackendConfig, session_dir: Path, bots: Bots
) -> None:
    directory = Path(tempfile.mkdtemp(prefix="m", dir=session_dir))
    arguments = [
        *("--listen", f"unix://{directory}/run/s.sock"),
        *("--docker-host", service_config.docker_host),
        *("--secrets-root", str(service_config.secrets_root.path)),
        *("--default-image", service_config.default_image),
        *("--metrics-listen", "127.0.0.1:0"),
        *("--log-format", "json"),
    ]
    bot_id, crashing = bots.new(), bots.new()
    with (
        SpanReceiver() as receiver,
        server_process([*arguments, "--otlp-endpoint", receiver.endpoint], directory / "log") as server,
    ):
        log = wait_until(lambda: re.search(r"http://127\.0\.0\.1:[0-9]+/metrics", server.log_text()), "its URL", 60)
        url = log[0]
        with connect(f"unix://{directory}/run/s.sock") as channel:
            rpc = Calls(ContainerManagerStub(channel))
            wait_until(lambda: value(scrape(url), "container_manager_view_in_sync"), "it is in sync", 60)
            rpc.run(bot_id, *FOREVER)
            assert rpc.status(bot_id) is not None
            # Without the service, so that the event arrives first.
            engine.containers.get(f"botmaker-{bot_id}").kill()
            wait_until(lambda: value(scrape(url), "container_manager_event_lag_seconds_count"), "an event is seen", 60)
            wait_until(lambda: value(scrape(url), EXITS, reason="KILLED") >= 1, "its end is counted", 60)
            rpc.remove(bot_id)
            rpc.run(crashing, "sh", "-c", "exit 3")
            wait_until(lambda: value(scrape(url), "container_manager_bot_restarts_total") >= 2, "it is revived", 60)
            rpc.stop(crashing)
            (shown,) = rpc.listed([crashing])
            assert pb.CONTAINER_STATE_EXITED == shown.state
            of_bot = {"container": f"botmaker-{crashing}", "event": "die"}
            died = engine.events(since=0, until=int(time.time()) + 1, filters=of_bot, decode=True)
            errors = sum(event["Actor"]["Attributes"]["exitCode"] == "3" for event in died)
            wait_until(lambda: value(scrape(url), EXITS, reason="ERROR") == errors, "each end is counted once", 60)
            text = scrape(url)
        server.terminate()
        assert 0 == server.wait(60)
    for method, count in (("CreateContainer", 2), ("StartContainer", 2), ("GetContainerStatus", 1)):
        assert count == ended(text, method, "OK"), method
    for operation, count in (("create_container", 2), ("start_container", 2), ("remove_container", 1)):
        assert count == value(text, ENGINE_CALLS, operation=operation, outcome="ok"), operation
    # The engine may have bots of other tests as well.
    assert value(text, "container_manager_bots", state="EXITED") >= 1
    assert 0 == value(text, "container_manager_pulls_total", outcome="ok")
    assert 0 == value(text, "container_manager_engine_calls_total", outcome="timeout")
    assert value(text, "container_manager_engine_calls_total", outcome="ok") > 0
    assert 0 == value(text, "container_manager_view_drift_total")
    assert value(text, "process_resident_memory_bytes") > 10_000_000

    start = next(span for span in receiver.spans if span.name.endswith("/StartContainer"))
    below = [span.name for span in receiver.spans if span.parent_span_id == start.span_id]
    assert ["engine start_container"] == below, "the view says which container to start"

    lines = [json.loads(line) for line in (directory / "log").read_text().splitlines()]
    line = next(line for line in lines if line.get("method", "").endswith("/StartContainer"))
    assert (bot_id, "OK", attributes(start)["botmaker.request_id"], start.trace_id.hex()) == (
        line["bot_id"],
        line["code"],
        line["request_id"],
        line["trace_id"],
    )
