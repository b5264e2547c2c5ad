"""The bot image: the configuration that its entry point renders, and the settings that it refuses."""

from __future__ import annotations

import re

import pytest

from tests.support.bot_image import (
    ANTHROPIC_TELEGRAM,
    SECRETS_DIRECTORY,
    BotContainers,
    SecretFile,
    random_secrets,
)
from tests.support.bot_image_bench import Bench
from tests.support.bots import NODE_UID

EX_NOINPUT = 66
EX_CONFIG = 78

OLLAMA = {"AI_PROVIDER": "ollama", "AI_MODEL": "qwen3:8b", "CHANNEL_TYPE": ""}

SECRET = b"sk-do-not-show-me"


def test_openclaw_finds_every_secret_and_no_plain_text(bot_containers: BotContainers) -> None:
    """OpenClaw's own audit resolves each reference and finds nothing secret in the configuration."""
    files = random_secrets("GATEWAY_TOKEN", "ANTHROPIC_API_KEY", "TELEGRAM_TOKEN")

    outcome = bot_containers.run(ANTHROPIC_TELEGRAM, files, ["openclaw", "secrets", "audit", "--check"])

    assert outcome.exit_code == 0, outcome.stdout + outcome.stderr


def test_config_is_private_to_its_owner(bench: Bench) -> None:
    """openclaw.json belongs to uid 1000 and has mode 0600; render prints the same text."""
    bench.put_secrets(random_secrets("GATEWAY_TOKEN"))
    state = bench.new_directory()

    ended = bench.entry_point(OLLAMA | {"OPENCLAW_STATE_DIR": state}, "render")

    assert ended.stdout == bench.shell(f"cat {state}/openclaw.json")
    assert f"{NODE_UID} 600\n{NODE_UID} 700\n" == bench.shell(f"stat -c '%u %a' {state}/openclaw.json {state}")


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
            {"CHANNEL_TYPE": "fax"},
            r'CHANNEL_TYPE is "fax"; .*discord, slack, telegram, whatsapp',
            id="unknown-channel",
        ),
        pytest.param(
            OLLAMA | {"OLLAMA_BASE_URL": "http://user:hunter2@host"},
            r"OLLAMA_BASE_URL must be .*(?<!hunter2)$",
            id="address-with-password",
        ),
    ],
)
def test_refuses_an_environment_it_does_not_understand(bench: Bench, change: dict[str, str], expected: str) -> None:
    """A missing or unknown setting stops the entry point with one line that says what is allowed, and exit code 78."""
    bench.put_secrets(random_secrets("GATEWAY_TOKEN", "ANTHROPIC_API_KEY", "TELEGRAM_TOKEN"))

    ended = bench.entry_point(ANTHROPIC_TELEGRAM | change)

    assert ended.exit_code == EX_CONFIG
    assert re.fullmatch(f"entrypoint: {expected}.*\n", ended.stderr)
    assert ended.stdout == ""
    assert "hunter2" not in ended.stderr


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
def test_refuses_a_secret_file_that_is_not_private(bench: Bench, file: SecretFile, expected: str) -> None:
    """A secret file that others can read, a link, one of another owner, an empty one: one line and exit code 66."""
    other = SecretFile(SECRET)  # what the links lead to
    bench.put_secrets(random_secrets("GATEWAY_TOKEN", "TELEGRAM_TOKEN") | {"OTHER": other, "ANTHROPIC_API_KEY": file})

    ended = bench.entry_point(ANTHROPIC_TELEGRAM, "render")

    assert ended.exit_code == EX_NOINPUT
    expected_line = f"entrypoint: secret file {SECRETS_DIRECTORY}/ANTHROPIC_API_KEY {expected}\n"
    assert re.fullmatch(expected_line, ended.stderr), ended.stderr
    assert SECRET.decode() not in ended.stderr


@pytest.mark.parametrize("environment", [ANTHROPIC_TELEGRAM, OLLAMA], ids=["with-key", "key-is-optional"])
def test_a_secrets_directory_that_the_bot_cannot_enter_is_one_line_that_says_what_to_do(
    bench: Bench, environment: dict[str, str]
) -> None:
    """It was a stack of Node's, where a provider needs no key."""
    bench.put_secrets(random_secrets("GATEWAY_TOKEN", "ANTHROPIC_API_KEY", "TELEGRAM_TOKEN"), uid=0)

    ended = bench.entry_point(environment, "render")

    expected = (
        f"entrypoint: the secrets in {SECRETS_DIRECTORY} cannot be read: the directory belongs to uid 0 with mode 0700"
        "; on the host, give it and its files to uid 1000 (chown -R 1000)\n"
    )
    assert (EX_NOINPUT, "", expected) == ended


@pytest.mark.parametrize(
    ("uid", "said"),
    [(0, "the secrets in /run/secrets cannot be read"), (1000, "secret file /run/secrets/GATEWAY_")],
)
def test_a_reload_that_cannot_read_the_token_says_so_in_one_line(bench: Bench, uid: int, said: str) -> None:
    bench.put_secrets({"GATEWAY_TOKEN": SecretFile(SECRET, mode=0)}, uid=uid)

    ended = bench.run(("node", "/opt/entrypoint/secrets-reload.mjs"), {})

    assert (EX_NOINPUT, 1) == (ended.exit_code, ended.stderr.count("\n"))
    assert ended.stderr.startswith(said)
