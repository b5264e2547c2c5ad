"""The example API tier over HTTP, as an unprivileged user, with the real client, service and engine."""

from __future__ import annotations

import json
import os
import queue
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from tests.examples.conftest import UID, ApiTier
from tests.support.bots import NODE_UID, Bots
from tests.support.calls import FOREVER
from tests.support.waiting import wait_until

pytest.importorskip("fastapi")

COUNTS = ("sh", "-c", "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done")
SHOW = ("cat", "/run/secrets/GATEWAY_TOKEN", "/home/node/.openclaw/workspace/AGENTS.md")
ABSENT = "00000000-0000-4000-8000-000000000000"
# Python 3.13 has another name for it.
TOO_LARGE = HTTPStatus(413).name
JSON = {"content-type": "application/json"}
IN_A_NAME = rb'{"labels": {"\ud800": ""}}'
SURROGATE = rb'{"secrets": {"A": "\ud800"}}'
Told = dict[str, Any]


@contextmanager
def events(http: httpx.Client, last_event_id: str = "", **parameters: Any) -> Iterator[Iterator[Told]]:
    """The events as they come, each with its ``id``, ``event`` and decoded ``data``."""
    headers = {"last-event-id": last_event_id} if last_event_id else {}
    with http.stream("GET", "/events", headers=headers, params=parameters) as response:
        assert "text/event-stream" in response.headers["content-type"]
        yield parsed(response.iter_lines())


def parsed(lines: Iterator[str]) -> Iterator[Told]:
    """The events of a stream's lines."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        else:
            if "event" in fields:
                yield {**fields, "data": json.loads(fields["data"])}
            fields = {}


def until(told: Iterator[Told], kind: str, **wanted: str) -> list[Told]:
    """The events up to the first one of this kind whose data has these values."""
    found = []
    for event in told:
        found.append(event)
        if event["event"] == kind and wanted.items() <= event["data"][kind].items():
            break
    return found


def test_a_bots_life_over_http(api_tier: ApiTier, bots: Bots) -> None:
    http, bot_id = api_tier.http, bots.new()
    url = f"/bots/{bot_id}"
    assert 404 == http.get(url).status_code
    created = http.post(url, json={"ai_provider": "ollama", "command": FOREVER})
    assert (201, bots.inspect(bot_id)["Id"]) == (created.status_code, created.json()["containerId"])
    assert 200 == http.post(f"{url}/start").status_code
    assert "CONTAINER_STATE_RUNNING" == http.get(url).json()["state"]
    assert bot_id in [each.get("botId") for each in http.get("/bots").json()]
    assert 200 == http.post(f"{url}/restart", params={"grace_seconds": 0}).status_code
    assert 200 == http.post(f"{url}/stop", params={"grace_seconds": 0}).status_code
    assert "CONTAINER_STATE_EXITED" == http.get(url).json()["state"]
    assert 200 == http.delete(url).status_code
    assert 404 == http.get(url).status_code


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_tier_runs_as_a_user_whose_only_right_is_the_sockets_group(api_tier: ApiTier) -> None:
    [pid] = re.findall(r"Started server process \[(\d+)\]", api_tier.log.read_text())
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines)
    assert [str(UID)] * 4 == status["Uid"].split()
    assert "" == status["Groups"].strip()
    assert 0 == int(status["CapEff"], 16)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to the bots' user")
def test_the_tier_provisions_rotates_and_removes_a_bot_without_a_directory_of_its_own(
    api_tier: ApiTier, bots: Bots
) -> None:
    http, bot_id = api_tier.http, bots.bare()
    url = f"/bots/{bot_id}"
    assert 200 == http.put(f"{url}/secrets", json={"secrets": {"GATEWAY_TOKEN": "first ", "B": "2"}}).status_code
    # Whatever type the client gives it.
    for content, kind in ((b"", "text/plain"), (b'{"a": 1}', "application/json"), (b"be kind", "text/markdown")):
        put = http.put(f"{url}/files/workspace/AGENTS.md", content=content, headers={"content-type": kind})
        assert 200 == put.status_code
    assert [("B", "1"), ("GATEWAY_TOKEN", "6")] == [
        (each["name"], each["sizeBytes"]) for each in http.get(f"{url}/secrets").json()
    ]
    first = http.post(url, json={"command": FOREVER}, headers={"idempotency-key": "mine"})
    again = http.post(url, json={"command": FOREVER}, headers={"idempotency-key": "mine"})
    assert (201, 201, first.json()) == (first.status_code, again.status_code, again.json())
    http.post(f"{url}/start").raise_for_status()
    container = bots.engine.containers.get(f"botmaker-{bot_id}")
    assert (0, b"first be kind") == container.exec_run(SHOW, user=str(NODE_UID))
    http.put(f"{url}/secrets", json={"secrets": {"GATEWAY_TOKEN": "second "}, "replaceAll": True}).raise_for_status()
    refused = http.post(f"{url}/secrets/reload")
    assert (400, "SECRETS_RELOAD_FAILED") == (refused.status_code, refused.json()["reason"])
    reloaded = http.post(f"{url}/secrets/reload", params={"restart": True})
    assert {"outcome": "OUTCOME_RESTARTED"} == reloaded.json()
    assert (0, b"second be kind") == container.exec_run(SHOW, user=str(NODE_UID))
    assert "INVALID_STATE" == http.delete(f"{url}/secrets").json()["reason"]
    for path in (url, f"{url}/secrets", f"{url}/state"):
        assert 200 == http.delete(path).status_code
    assert ([], False, False) == (
        bots.containers(),
        (bots.secrets_root / bot_id).exists(),
        (api_tier.state_root / bot_id).exists(),
    )


def test_one_list_answers_for_many_bots_and_filters_by_state_and_label(api_tier: ApiTier, bots: Bots) -> None:
    http, ids = api_tier.http, [bots.new() for _ in range(3)]
    for number, bot_id in enumerate(ids):
        labels = {"tenant": "a" if number else "b", "x": "=y"}
        http.post(f"/bots/{bot_id}", json={"command": FOREVER, "labels": labels}).raise_for_status()
    http.post(f"/bots/{ids[2]}/start").raise_for_status()

    def listed(**parameters: Any) -> list[str]:
        return [each["botId"] for each in http.get("/bots", params={"bot_id": ids, **parameters}).json()]

    assert ids == listed()
    assert ids[1:] == listed(label=["tenant=a", "x==y"])
    assert ids[2:] == listed(state="CONTAINER_STATE_RUNNING")
    assert ids[:1] == listed(bot_id=ids[0])


def test_stats_are_those_of_running_bots(api_tier: ApiTier, bots: Bots) -> None:
    http, running, stopped = api_tier.http, bots.new(), bots.new()
    for bot_id in (running, stopped):
        http.post(f"/bots/{bot_id}", json={"command": FOREVER}).raise_for_status()
    http.post(f"/bots/{running}/start").raise_for_status()
    [sample] = http.get("/stats", params={"bot_id": [running, stopped]}).json()
    assert (running, True) == (sample["botId"], int(sample["memoryUsageBytes"]) > 0)
    assert "time" in sample


@pytest.mark.parametrize(
    ("method", "path", "given", "expected"),
    [
        ("POST", "/bots/nonsense/start", {}, (400, "INVALID_BOT_ID", "bot_id")),
        ("POST", f"/bots/{ABSENT}/start", {}, (404, "CONTAINER_NOT_FOUND", "")),
        ("GET", f"/bots/{ABSENT}", {}, (404, "CONTAINER_NOT_FOUND", "")),
        ("GET", f"/bots/{ABSENT}/logs", {}, (404, "CONTAINER_NOT_FOUND", "")),
        ("POST", f"/bots/{ABSENT}", {"json": {"no_such_field": 1}}, (400, "INVALID_REQUEST", "no_such_field")),
        ("POST", f"/bots/{ABSENT}", {"json": {"ports": [{"containerPort": 1 << 16}]}}, (400, "INVALID_REQUEST", "")),
        ("POST", f"/bots/{ABSENT}", {"content": b"{"}, (400, "INVALID_REQUEST", "")),
        ("POST", f"/bots/{ABSENT}", {"content": b"{", "headers": JSON}, (400, "INVALID_REQUEST", "")),
        ("POST", f"/bots/{ABSENT}", {"json": {"environment": {"1BAD": ""}}}, (400, "INVALID_CONFIG", "environment")),
        ("POST", f"/bots/{ABSENT}/stop?grace_seconds=-1", {}, (400, "INVALID_REQUEST", "grace_seconds")),
        ("GET", "/bots?label=x", {}, (400, "INVALID_REQUEST", "label")),
        ("GET", "/bots?state=RUNNING", {}, (400, "INVALID_REQUEST", "state")),
        ("PUT", f"/bots/{ABSENT}/files/a%2F..%2Fb", {"content": b"x"}, (400, "INVALID_CONFIG", "files")),
        ("PUT", f"/bots/{ABSENT}/files/a", {"content": bytes((1 << 20) + 1)}, (413, TOO_LARGE, "")),
        ("PUT", f"/bots/{ABSENT}/secrets", {"json": {"secrets": {"A": "x" * (5 << 20)}}}, (413, TOO_LARGE, "")),
        ("PUT", f"/bots/{ABSENT}/secrets", {"content": SURROGATE, "headers": JSON}, (400, "INVALID_REQUEST", "")),
        ("POST", f"/bots/{ABSENT}", {"content": IN_A_NAME, "headers": JSON}, (400, "INVALID_REQUEST", "")),
        ("GET", "/no/such/path", {}, (404, "NOT_FOUND", "")),
        ("PATCH", "/bots", {}, (405, "METHOD_NOT_ALLOWED", "")),
    ],
)
def test_every_error_has_one_shape_with_its_reason_and_fields(
    api_tier: ApiTier, method: str, path: str, given: dict[str, Any], expected: tuple[int, str, str]
) -> None:
    answer = api_tier.http.request(method, path, **given)
    body = answer.json()
    assert {"reason", "message", "fields"} == set(body)
    assert expected[:2] == (answer.status_code, body["reason"])
    assert body["message"]
    assert not expected[2] or any(expected[2] in field for field in body["fields"])


def test_missing_secrets_are_the_servers_problem_and_show_no_path(api_tier: ApiTier, bots: Bots) -> None:
    answer = api_tier.http.post(f"/bots/{bots.bare()}", json={"command": FOREVER})
    assert (500, "SECRETS_UNAVAILABLE") == (answer.status_code, answer.json()["reason"])
    assert str(bots.secrets_root) not in answer.text
    assert str(bots.secrets_root) in api_tier.log.read_text(), "its own log says what is missing"
    assert [] == bots.containers()


def test_a_container_of_another_name_is_the_operators_problem(api_tier: ApiTier, bots: Bots, test_image: str) -> None:
    bot_id = bots.bare()
    labels = {"botmaker.managed": "true", "botmaker.bot-id": bot_id}
    bots.engine.containers.create(test_image, list(FOREVER), name=f"botmaker-{bot_id[:8]}", labels=labels)
    answer = api_tier.http.post(f"/bots/{bot_id}/stop")
    assert (500, "CONTAINER_NAME_MISMATCH") == (answer.status_code, answer.json()["reason"])
    assert "adopt" not in answer.text
    assert "container-manager adopt" in api_tier.log.read_text()


def test_a_secret_of_a_refused_request_is_in_no_error_and_no_log(api_tier: ApiTier) -> None:
    secrets = {"GATEWAY_TOKEN": "the-secret-value", "B": 5, "C": ["the-secret-value"]}
    answer = api_tier.http.put(f"/bots/{ABSENT}/secrets", json={"secrets": secrets})
    assert (400, "INVALID_REQUEST") == (answer.status_code, answer.json()["reason"])
    assert "the-secret" not in answer.text + api_tier.log.read_text()


def test_the_documentation_page_needs_no_other_server_and_types_every_request_body(api_tier: ApiTier) -> None:
    page = api_tier.http.get("/docs")
    needed = re.findall(r"""(?:src|href)=["']([^"']+)["']""", page.text)
    assert len(needed) >= 2
    assert [] == [url for url in needed if "//" in url]
    assert {200} == {api_tier.http.get(url).status_code for url in needed}
    assert not re.search(r"https?:", page.text)
    document = api_tier.http.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for media, content in operation.get("requestBody", {}).get("content", {}).items():
                assert media == "application/octet-stream" or "BotConfig" in str(content) or "Secrets" in str(content)
            assert {"$ref": "#/components/schemas/Failure"} == (
                operation["responses"]["default"]["content"]["application/json"]["schema"]
            ), path
            assert "422" not in operation["responses"]
    messages = {"BotConfig": pb.ContainerConfig, "HealthCheck": pb.HealthCheck}
    messages |= {"PortBinding": pb.PortBinding, "ResourceLimits": pb.ResourceLimits}
    for name, message in messages.items():
        assert {field.json_name for field in message.DESCRIPTOR.fields} == set(schemas[name]["properties"]), name


def test_while_the_service_is_down_answers_are_503_and_say_nothing_of_grpc(api_tier: ApiTier) -> None:
    http = api_tier.http
    assert {"status": "ok", "version": "0.1.0"} == http.get("/healthz").json()
    api_tier.stop_service()
    try:
        answers = [http.get("/healthz"), http.post(f"/bots/{ABSENT}/start"), http.get(f"/bots/{ABSENT}/logs")]
    finally:
        api_tier.start_service()
    for answer in answers:
        assert (503, "SERVICE_UNAVAILABLE") == (answer.status_code, answer.json()["reason"])
        assert not re.search(r"grpc|unix|connect|UNAVAILABLE:|errno", answer.json()["message"], re.IGNORECASE)
        assert "1" == answer.headers["retry-after"]
    wait_until(lambda: http.get("/healthz").status_code == 200, "it is healthy again")


def test_followed_logs_go_on_across_a_restart_of_the_service(api_tier: ApiTier, bots: Bots) -> None:
    http, bot_id = api_tier.http, bots.new()
    http.post(f"/bots/{bot_id}", json={"command": COUNTS}).raise_for_status()
    http.post(f"/bots/{bot_id}/start").raise_for_status()
    lines: list[str] = []

    def read() -> None:
        with http.stream("GET", f"/bots/{bot_id}/logs", params={"follow": "true"}) as response:
            lines.extend(response.iter_lines())

    reader = threading.Thread(target=read)
    reader.start()
    wait_until(lambda: len(lines) >= 10, "lines come")
    api_tier.restart_service()
    seen = len(lines)
    wait_until(lambda: len(lines) >= seen + 20, "lines go on")
    http.delete(f"/bots/{bot_id}").raise_for_status()
    reader.join(60)
    assert [f"line {number + 1}" for number in range(len(lines))] == lines


def test_events_tell_what_there_is_and_what_happens(api_tier: ApiTier, bots: Bots) -> None:
    http, bot_id, other = api_tier.http, bots.new(), bots.new()
    with events(http) as told:
        until(told, "synced")
        http.post(f"/bots/{bot_id}", json={"command": FOREVER}).raise_for_status()
        changed = until(told, "changed", botId=bot_id)[-1]
    assert "CONTAINER_STATE_CREATED" == changed["data"]["changed"]["state"]
    with events(http, bot_id=other) as told:
        assert ["synced"] == [event["event"] for event in until(told, "synced")]
        http.post(f"/bots/{other}", json={"command": FOREVER}).raise_for_status()
        assert other == next(told)["data"]["changed"]["botId"]


def test_a_reader_of_events_resumes_after_the_last_one_that_it_has_seen(api_tier: ApiTier, bots: Bots) -> None:
    http, bot_id = api_tier.http, bots.new()
    http.post(f"/bots/{bot_id}", json={"command": FOREVER}).raise_for_status()
    with events(http) as told:
        snapshot, *_, synced = until(told, "synced")
    http.post(f"/bots/{bot_id}/start").raise_for_status()
    http.delete(f"/bots/{bot_id}").raise_for_status()
    with events(http, synced["id"]) as told:
        missed = until(told, "removed", botId=bot_id)
    assert {"changed", "removed"} == {event["event"] for event in missed}, "no snapshot"
    ids = [int(event["id"].partition("-")[2]) for event in missed]
    assert list(range(ids[0], ids[0] + len(ids))) == ids
    for unknown in ("of another process-5", snapshot["id"], f"{synced['id']}999"):
        with events(http, unknown) as told:
            assert "synced" == until(told, "synced")[-1]["event"]


def test_events_go_on_across_a_restart_of_the_service_and_tell_what_happened_meanwhile(
    api_tier: ApiTier, bots: Bots
) -> None:
    http, stays, goes = api_tier.http, bots.new(), bots.new()
    for bot_id in (stays, goes):
        http.post(f"/bots/{bot_id}", json={"command": FOREVER}).raise_for_status()
    received: queue.Queue[Told] = queue.Queue()

    def read() -> None:
        with events(http) as told:
            for event in until(told, "removed", botId=stays):
                received.put(event)

    reader = threading.Thread(target=read)
    with events(http) as told:
        until(told, "synced")
        reader.start()
        api_tier.stop_service()
        bots.engine.containers.get(f"botmaker-{goes}").remove(force=True)
        bots.engine.containers.get(f"botmaker-{stays}").start()
        api_tier.start_service()
        after = until(told, "resynced")
        http.delete(f"/bots/{stays}", timeout=60).raise_for_status()
        until(told, "removed", botId=stays)
    reader.join(60)
    kinds = {(event["event"], (event["data"].get(event["event"]) or {}).get("botId")) for event in after}
    # The engine may have bots of other tests as well.
    ours = {kind for kind in kinds if kind[1] in (stays, goes, None)}
    assert {("changed", stays), ("removed", goes), ("resynced", None)} == ours
    assert "removed" == list(received.queue)[-1]["event"], "every reader goes on"
    log = api_tier.log.read_text()
    assert "Traceback" not in log
    assert "the events of the bot service have ended (UNAVAILABLE); resuming" in log
