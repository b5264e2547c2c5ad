"""A real bot, from the bot image to a gateway that answers, through the service only."""

from __future__ import annotations

import json
import os

import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from tests.support.bots import GATEWAY_TOKEN, Bots
from tests.support.calls import Calls
from tests.support.gateway import GATEWAY_PORT, GATEWAY_START_SECONDS, is_live, use_tool
from tests.support.waiting import wait_until


def published_port(calls: Calls, bot_id: str) -> int:
    """The host port that the engine bound to the gateway's port."""
    status = calls.status(bot_id)
    assert status is not None
    assert status.state == pb.CONTAINER_STATE_RUNNING
    return status.ports[0].host_port


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give secret files to the image's user")
@pytest.mark.timeout(600)
def test_a_real_bot_is_created_started_used_restarted_stopped_and_removed(
    calls: Calls, bots: Bots, openclaw_image: str
) -> None:
    bot_id = bots.new_openclaw()
    calls.create(
        bot_id,
        image=openclaw_image,
        ai_provider="ollama",
        ai_model="llama3.3",
        ports=[pb.PortBinding(container_port=GATEWAY_PORT)],
    )
    for verb in (calls.start, calls.restart):
        verb(bot_id)
        port = published_port(calls, bot_id)
        wait_until(lambda port=port: is_live(port), "the gateway is live", GATEWAY_START_SECONDS)
    assert use_tool(port, None).status == 401
    assert use_tool(port, "wrong-" + GATEWAY_TOKEN).status == 401
    assert use_tool(port, GATEWAY_TOKEN).status == 200
    calls.stop(bot_id, grace=60)
    stopped = calls.status(bot_id)
    assert stopped is not None
    assert (stopped.exit_code, stopped.exit_reason) == (0, pb.EXIT_REASON_COMPLETED)
    assert GATEWAY_TOKEN not in json.dumps(bots.inspect(bot_id))
    assert GATEWAY_TOKEN.encode() not in bots.containers()[0].logs()
    calls.remove(bot_id)
    assert bots.containers() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give secret files to the image's user")
def test_a_bot_without_its_required_secret_ends_at_once_and_the_status_says_so(
    calls: Calls, bots: Bots, openclaw_image: str
) -> None:
    bot_id = bots.new_openclaw()
    calls.run(bot_id, image=openclaw_image, ai_provider="anthropic", ai_model="claude-sonnet-4-5")

    def crashed() -> pb.ContainerStatus | None:
        status = calls.status(bot_id)
        return status if status is not None and status.HasField("exit_code") else None

    status = wait_until(crashed, "the entry point gives up", 60)
    assert status.exit_code not in (0, 137, 143)
    assert status.exit_reason == pb.EXIT_REASON_ERROR
    assert b"ANTHROPIC_API_KEY" in bots.containers()[0].logs()
    calls.stop(bot_id, grace=0)
