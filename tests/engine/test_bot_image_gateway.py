"""The bot image: the real gateway in its container."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.bot_image import (
    ANTHROPIC_TELEGRAM,
    OPENAI_DISCORD,
    SECRETS_DIRECTORY,
    STATE_DIRECTORY,
    BotContainers,
    Gateway,
    random_secrets,
    read_tree,
    rendered,
)
from tests.support.bots import NODE_UID


@pytest.fixture(scope="module")
def gateway(bot_containers: BotContainers) -> Gateway:
    """One live gateway, which the tests do not change."""
    files = random_secrets("GATEWAY_TOKEN", "ANTHROPIC_API_KEY", "TELEGRAM_TOKEN")
    return bot_containers.start_gateway(ANTHROPIC_TELEGRAM, files)


def test_gateway_accepts_its_token_and_nothing_else(gateway: Gateway) -> None:
    """With the full hardening, the gateway serves callers with the token of the file, and refuses all others."""
    answer = gateway.use_tool(gateway.token)
    assert answer.status == 200, answer.body
    assert json.loads(answer.body)["ok"] is True

    assert gateway.use_tool("not-the-token").status == 401
    assert gateway.use_tool("").status == 401
    assert gateway.use_tool(None).status == 401


def test_gateway_runs_unprivileged(gateway: Gateway) -> None:
    """Every process in the container has uid 1000, no capability, and can gain none."""
    output = gateway.shell("cat /proc/[0-9]*/status 2>/dev/null || true").decode()

    names = re.findall(r"^Name:\t(.*)$", output, re.MULTILINE)
    assert any(name.startswith("openclaw") for name in names), names
    assert set(re.findall(r"^Uid:\t(.*)$", output, re.MULTILINE)) == {"\t".join([str(NODE_UID)] * 4)}
    assert {int(mask, 16) for mask in re.findall(r"^Cap(?:Prm|Eff|Bnd):\t(.*)$", output, re.MULTILINE)} == {0}
    assert set(re.findall(r"^NoNewPrivs:\t(.*)$", output, re.MULTILINE)) == {"1"}


def test_gateway_cannot_write_its_secrets(gateway: Gateway) -> None:
    """The secrets directory is read-only inside."""
    output = gateway.shell(f"echo x 2>&1 >{SECRETS_DIRECTORY}/GATEWAY_TOKEN || true; true")

    assert gateway.shell(f"cat {SECRETS_DIRECTORY}/GATEWAY_TOKEN").decode().strip() == gateway.token, output


def test_no_secret_leaves_its_file(gateway: Gateway) -> None:
    """No byte sequence of a secret is in an environment, a file that was written, the inspect output, or the logs."""
    gateway.use_tool(gateway.token)
    gateway.container.reload()
    environments = gateway.shell("cat /proc/[0-9]*/environ 2>/dev/null || true")
    places = {
        "environments": environments,
        "command lines": gateway.shell("cat /proc/[0-9]*/cmdline 2>/dev/null || true"),
        "inspect": json.dumps(gateway.container.attrs).encode(),
        "logs": gateway.container.logs(),
    }
    for root in (STATE_DIRECTORY, "/tmp"):
        places.update({name: data for name, (_, data) in read_tree(gateway.container, root).items()})

    # The search really read these places, including those of the gateway itself.
    assert environments.count(b"AI_PROVIDER=anthropic") >= 2
    assert any(name.endswith("openclaw.json") for name in places)

    leaks = [name for name, data in places.items() for value in gateway.secret_values if value in data]
    assert leaks == []


def test_sigterm_ends_the_gateway_cleanly_and_state_survives(bot_containers: BotContainers) -> None:
    """With a state volume: SIGTERM ends the gateway with exit code 0, and what OpenClaw has written there is kept."""
    state = bot_containers.volume()
    files = random_secrets("GATEWAY_TOKEN", "OPENAI_API_KEY", "DISCORD_TOKEN")
    gateway = bot_containers.start_gateway(OPENAI_DISCORD, files, state)
    expected = rendered(gateway.container)
    gateway.shell("openclaw config set logging.level debug")

    gateway.container.kill("SIGTERM")

    assert gateway.container.wait(timeout=60)["StatusCode"] == 0, gateway.logs()

    again = bot_containers.create(OPENAI_DISCORD, files, ["render"], state=state)
    again.start()
    assert again.wait(timeout=60)["StatusCode"] == 0
    kept = rendered(again)
    assert kept.pop("logging") == {"level": "debug"}
    assert expected.items() <= kept.items()
