"""The example API tier over HTTP, with the real client, service and engine."""

from __future__ import annotations

import json
import threading

import pytest

from tests.examples.conftest import ApiTier
from tests.support.bots import Bots
from tests.support.calls import FOREVER
from tests.support.waiting import wait_until

pytest.importorskip("fastapi")

COUNTS = ("sh", "-c", "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done")


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


def test_errors_of_the_service_are_http_statuses_with_reasons(api_tier: ApiTier, bots: Bots) -> None:
    http, bot_id = api_tier.http, bots.new()
    answers = [
        http.post("/bots/nonsense/start"),
        http.post(f"/bots/{bot_id}/start"),
        http.post(f"/bots/{bot_id}", json={"no_such_field": 1}),
        http.post(f"/bots/{bot_id}", json={"environment": {"1BAD": ""}}),
    ]
    told = [(answer.status_code, answer.json().get("reason")) for answer in answers]
    assert [(400, "INVALID_BOT_ID"), (404, "CONTAINER_NOT_FOUND"), (400, None), (400, "INVALID_CONFIG")] == told
    assert [] == bots.containers()


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
    http, bot_id = api_tier.http, bots.new()
    told = []
    with http.stream("GET", "/events") as response:
        for line in response.iter_lines():
            if line == "event: synced":
                http.post(f"/bots/{bot_id}", json={"command": FOREVER}).raise_for_status()
            if line.startswith("data: "):
                told.append(json.loads(line.removeprefix("data: ")))
                if told[-1].get("changed", {}).get("botId") == bot_id:
                    break
    assert "CONTAINER_STATE_CREATED" == told[-1]["changed"]["state"]
