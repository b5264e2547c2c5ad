"""The bot image: the configuration that its entry point renders, and the settings that it refuses."""

from __future__ import annotations

import re

import pytest

from tests.support.bot_image import (
    ANTHROPIC_TELEGRAM,
    CONFIG_FILE,
    OPENAI_DISCORD,
    SECRETS_DIRECTORY,
    BotContainers,
    SecretFile,
    random_secrets,
    read_tree,
    rendered,
)
from tests.support.bots import NODE_UID

EX_NOINPUT = 66
EX_CONFIG = 78

OPENAI_SLACK = {"AI_PROVIDER": "openai", "AI_MODEL": "gpt-5.4", "CHANNEL_TYPE": "slack"}
GROQ = {"AI_PROVIDER": "groq", "AI_MODEL": "openai/gpt-oss-120b"}
OLLAMA = {"AI_PROVIDER": "ollama", "AI_MODEL": "qwen3:8b", "CHANNEL_TYPE": ""}
NO_CHANNEL = {"AI_PROVIDER": "anthropic", "AI_MODEL": "claude-opus-5"}

SECRET = b"sk-do-not-show-me"


def file_reference(name: str) -> dict[str, str]:
    return {"source": "file", "provider": name.lower(), "id": "value"}


@pytest.mark.parametrize(
    ("environment", "names"),
    [
        pytest.param(ANTHROPIC_TELEGRAM, ("ANTHROPIC_API_KEY", "TELEGRAM_TOKEN"), id="anthropic-telegram"),
        pytest.param(OPENAI_DISCORD, ("OPENAI_API_KEY", "DISCORD_TOKEN"), id="openai-discord"),
        pytest.param(OPENAI_SLACK, ("OPENAI_API_KEY", "SLACK_TOKEN", "SLACK_APP_TOKEN"), id="openai-slack"),
        pytest.param(GROQ, ("GROQ_API_KEY",), id="groq"),
        pytest.param(OLLAMA, (), id="ollama-without-key"),
        pytest.param(NO_CHANNEL, ("ANTHROPIC_API_KEY",), id="no-channel"),
    ],
)
def test_rendered_config_passes_validation(
    bot_containers: BotContainers, environment: dict[str, str], names: tuple[str, ...]
) -> None:
    """The rendered configuration refers to exactly the secrets of its provider and channel, and OpenClaw accepts it."""
    files = random_secrets("GATEWAY_TOKEN", *names)

    outcome = bot_containers.run(environment, files, ["openclaw", "config", "validate"])

    assert outcome.exit_code == 0, outcome.stderr
    assert "Config valid" in outcome.stdout
    config = rendered(outcome.container)
    assert config["agents"]["defaults"]["model"] == {
        "primary": f"{environment['AI_PROVIDER']}/{environment['AI_MODEL']}"
    }
    assert config["gateway"]["auth"] == {"mode": "token", "token": file_reference("GATEWAY_TOKEN")}
    assert list(config["models"]["providers"]) == [environment["AI_PROVIDER"]]
    assert list(config.get("channels", {})) == [channel for channel in [environment.get("CHANNEL_TYPE")] if channel]
    assert config["secrets"]["providers"] == {
        name.lower(): {"source": "file", "path": f"{SECRETS_DIRECTORY}/{name}", "mode": "singleValue"} for name in files
    }


def test_openclaw_finds_every_secret_and_no_plain_text(bot_containers: BotContainers) -> None:
    """OpenClaw's own audit resolves each reference and finds nothing secret in the configuration."""
    files = random_secrets("GATEWAY_TOKEN", "ANTHROPIC_API_KEY", "TELEGRAM_TOKEN")

    outcome = bot_containers.run(ANTHROPIC_TELEGRAM, files, ["openclaw", "secrets", "audit", "--check"])

    assert outcome.exit_code == 0, outcome.stdout + outcome.stderr


def test_config_is_private_to_its_owner(bot_containers: BotContainers) -> None:
    """openclaw.json belongs to uid 1000 and has mode 0600; render prints the same text."""
    outcome = bot_containers.run(OLLAMA, random_secrets("GATEWAY_TOKEN"), ["render"])

    ((member, text),) = read_tree(outcome.container, CONFIG_FILE).values()
    assert (member.uid, member.mode & 0o777) == (NODE_UID, 0o600)
    assert outcome.stdout == text.decode()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({"AI_PROVIDER": ""}, r"AI_PROVIDER is not set; .*anthropic.*ollama", id="no-provider"),
        pytest.param({"AI_PROVIDER": "skynet"}, r'AI_PROVIDER is "skynet"; .*anthropic.*ollama', id="unknown-provider"),
        pytest.param({"AI_PROVIDER": "constructor"}, r'AI_PROVIDER is "constructor"', id="inherited-name"),
        pytest.param({"AI_PROVIDER": "a\nb"}, r'AI_PROVIDER is "a\\nb"', id="provider-with-newline"),
        pytest.param({"AI_MODEL": ""}, r"AI_MODEL is not set", id="no-model"),
        pytest.param({"AI_MODEL": "${HOME}"}, r'AI_MODEL is "\$\{HOME\}"', id="model-with-substitution"),
        pytest.param(
            {"CHANNEL_TYPE": "fax"}, r'CHANNEL_TYPE is "fax"; .*discord, slack, telegram', id="unknown-channel"
        ),
        pytest.param(
            OLLAMA | {"OLLAMA_BASE_URL": "http://user:hunter2@host"},
            r"OLLAMA_BASE_URL must be .*(?<!hunter2)$",
            id="address-with-password",
        ),
    ],
)
def test_refuses_an_environment_it_does_not_understand(
    bot_containers: BotContainers, change: dict[str, str], expected: str
) -> None:
    """A missing or unknown setting stops the entry point with one line that says what is allowed, and exit code 78."""
    files = random_secrets("GATEWAY_TOKEN", "ANTHROPIC_API_KEY", "TELEGRAM_TOKEN")

    outcome = bot_containers.run(ANTHROPIC_TELEGRAM | change, files)

    assert outcome.exit_code == EX_CONFIG
    assert re.fullmatch(f"entrypoint: {expected}.*\n", outcome.stderr)
    assert outcome.stdout == ""
    assert "hunter2" not in outcome.stderr


@pytest.mark.parametrize("missing", ["GATEWAY_TOKEN", "ANTHROPIC_API_KEY", "TELEGRAM_TOKEN"])
def test_refuses_to_start_without_a_required_secret(bot_containers: BotContainers, missing: str) -> None:
    """A required secret file that is missing stops the entry point with one line that names it, and exit code 66."""
    files = random_secrets("GATEWAY_TOKEN", "ANTHROPIC_API_KEY", "TELEGRAM_TOKEN")
    del files[missing]

    outcome = bot_containers.run(ANTHROPIC_TELEGRAM, files)

    assert outcome.exit_code == EX_NOINPUT
    assert re.fullmatch(f"entrypoint: secret file {SECRETS_DIRECTORY}/{missing} is missing; .*\n", outcome.stderr)
    assert outcome.stdout == ""


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        pytest.param(SecretFile(SECRET, mode=0o640), r"has mode 0640; .*chmod 0600.*", id="group-readable"),
        pytest.param(SecretFile(SECRET, mode=0o604), r"has mode 0604; .*chmod 0600.*", id="world-readable"),
        pytest.param(SecretFile(SECRET, mode=0o000), r"cannot be read; .*", id="unreadable"),
        pytest.param(SecretFile(SECRET, uid=0), r"cannot be read; it must belong to uid 1000 .*", id="roots-own"),
        pytest.param(SecretFile(SECRET, uid=0, mode=0o644), r"belongs to uid 0; .*chown 1000.*", id="wrong-owner"),
        pytest.param(SecretFile(symlink_to="OTHER"), r"is a symbolic link; .*", id="symlink"),
        pytest.param(SecretFile(hard_link_to="OTHER"), r"has other hard links; .*", id="hard-link"),
        pytest.param(SecretFile(b""), r"is empty", id="empty"),
        pytest.param(SecretFile(b" \n"), r"is empty", id="blank"),
    ],
)
def test_refuses_a_secret_file_that_is_not_private(
    bot_containers: BotContainers, file: SecretFile, expected: str
) -> None:
    """A secret file that others can read, a link, one of another owner, an empty one: one line and exit code 66."""
    other = SecretFile(SECRET)  # what the links lead to
    files = random_secrets("GATEWAY_TOKEN", "TELEGRAM_TOKEN") | {"OTHER": other, "ANTHROPIC_API_KEY": file}

    outcome = bot_containers.run(ANTHROPIC_TELEGRAM, files, ["render"])

    assert outcome.exit_code == EX_NOINPUT
    expected_line = f"entrypoint: secret file {SECRETS_DIRECTORY}/ANTHROPIC_API_KEY {expected}\n"
    assert re.fullmatch(expected_line, outcome.stderr), outcome.stderr
    assert SECRET.decode() not in outcome.stderr
