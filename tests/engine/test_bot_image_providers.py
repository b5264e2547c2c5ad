"""The bot image: what its users configure, as OpenClaw is told of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.docs.documents import blocks
from tests.support.bot_image import random_secrets
from tests.support.bot_image_bench import Bench

README = "images/openclaw/README.md"
EX_CONFIG = 78
COMPLETIONS = "openai-completions"

# BotMaker's names of its providers, each with the protocol that OpenClaw speaks to BotMaker's proxy for it.
BOTMAKERS = {
    "anthropic": "anthropic-messages",
    "google": "google-generative-ai",
    "grok": "openai-responses",
    "openai": "openai-responses",
    **dict.fromkeys(("cerebras", "deepinfra", "deepseek", "fireworks", "groq", "huggingface", "minimax"), COMPLETIONS),
    **dict.fromkeys(("mistral", "moonshot", "nebius", "nvidia", "ollama", "openrouter", "ovhcloud"), COMPLETIONS),
    **dict.fromkeys(("perplexity", "scaleway", "togetherai", "venice"), COMPLETIONS),
}
LOCAL = ("litellm", "lmstudio", "ollama", "sglang", "vllm")
PROVIDERS = (*BOTMAKERS, *LOCAL, "xai", "together")
CHANNELS = {
    "telegram": {"botToken": "telegram_token"},
    "discord": {"token": "discord_token"},
    "slack": {"botToken": "slack_token", "appToken": "slack_app_token"},
    "whatsapp": {},
}
OPENCLAWS_ID = {"grok": "xai", "togetherai": "together"}


@pytest.fixture(scope="module", autouse=True)
def every_secret(bench: Bench) -> None:
    """Every secret that a provider or a channel needs."""
    keys = [f"{provider.upper()}_API_KEY" for provider in {*PROVIDERS} - {*LOCAL}]
    tokens = ("GATEWAY_TOKEN", "TELEGRAM_TOKEN", "DISCORD_TOKEN", "SLACK_TOKEN", "SLACK_APP_TOKEN")
    bench.put_secrets(random_secrets(*tokens, *keys))


def provider_of(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The only provider of a configuration."""
    ((name, settings),) = config["models"]["providers"].items()
    return name, settings


def reference(name: str) -> dict[str, str]:
    return {"source": "file", "provider": name, "id": "value"}


def with_proxy(provider: str) -> dict[str, str]:
    """The environment of a bot whose keys are in BotMaker's proxy."""
    url = f"http://keyring-proxy:9101/v1/{provider}"
    return {"AI_PROVIDER": provider, "AI_MODEL": "some/model", "AI_BASE_URL": url}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_provider_takes_a_base_url_and_a_token_in_place_of_its_key(bench: Bench, provider: str) -> None:
    config = bench.rendered(with_proxy(provider))

    name, settings = provider_of(config)
    assert OPENCLAWS_ID.get(provider, provider) == name
    assert {"primary": f"{name}/some/model"} == config["agents"]["defaults"]["model"]
    assert f"http://keyring-proxy:9101/v1/{provider}" == settings["baseUrl"]
    assert BOTMAKERS.get(provider, "openai-responses" if provider == "xai" else COMPLETIONS) == settings["api"]
    assert [{"id": "some/model", "name": "some/model"}] == settings["models"]
    if provider not in LOCAL:
        assert reference(f"{provider}_api_key") == settings["apiKey"]


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {key: merged(below[key], value) for key, value in above.items() if isinstance(below.get(key), dict)}
    return below | above | both


@pytest.mark.timeout(300)
def test_openclaw_accepts_every_provider_and_every_channel(bench: Bench) -> None:
    """All of them at once: OpenClaw checks each provider and each channel by itself, and takes seconds to start."""
    config: dict[str, Any] = {}
    for number, provider in enumerate(PROVIDERS):
        channel = [*CHANNELS, ""][number % 5]
        environment = {"AI_PROVIDER": provider, "AI_MODEL": "a/~b@c[d]", "CHANNEL_TYPE": channel}
        config = merged(config, bench.rendered(with_proxy(provider) | environment if number % 2 else environment))
    assert {*CHANNELS} == {*config["channels"]}
    assert {OPENCLAWS_ID.get(name, name) for name in PROVIDERS} == {*config["models"]["providers"]}
    state = bench.new_directory()
    bench.write(f"{state}/openclaw.json", json.dumps(config))

    validated = bench.run(("openclaw", "config", "validate"), {"OPENCLAW_STATE_DIR": state})

    assert validated.exit_code == 0, validated.stdout + validated.stderr
    assert "Config valid" in validated.stdout
    assert "warning" not in f"{validated.stdout}{validated.stderr}".lower()


@pytest.mark.timeout(300)
def test_openclaw_accepts_the_readmes_example_of_another_channel(bench: Bench) -> None:
    (example,) = [block.text for block in blocks(README) if block.language == "json" and "matrix" in block.text]
    state = bench.new_directory()
    bench.write(f"{state}/openclaw.user.json", example)
    config = bench.rendered({"AI_PROVIDER": "vllm", "AI_MODEL": "m", "OPENCLAW_STATE_DIR": state})
    assert json.loads(example)["channels"] == config["channels"]
    assert {"gateway_token", "matrix_token"} == {*config["secrets"]["providers"]}

    validated = bench.run(("openclaw", "config", "validate"), {"OPENCLAW_STATE_DIR": state})

    assert "Config valid" in validated.stdout, validated.stdout + validated.stderr


@pytest.mark.parametrize(("channel", "secrets"), CHANNELS.items(), ids=CHANNELS)
def test_a_channel_has_its_tokens_or_needs_none(bench: Bench, channel: str, secrets: dict[str, str]) -> None:
    config = bench.rendered({"AI_PROVIDER": "vllm", "AI_MODEL": "m", "CHANNEL_TYPE": channel})

    settings = config["channels"][channel]
    assert settings["enabled"] is True
    assert {field: reference(name) for field, name in secrets.items()} == {
        field: value for field, value in settings.items() if isinstance(value, dict)
    }
    assert {"gateway_token", *secrets.values()} == {*config["secrets"]["providers"]}


@pytest.mark.parametrize("provider", LOCAL)
def test_a_server_of_ones_own_needs_no_key_and_is_on_the_host(bench: Bench, provider: str) -> None:
    config = bench.rendered({"AI_PROVIDER": provider, "AI_MODEL": "m"})

    _, settings = provider_of(config)
    assert settings["baseUrl"].startswith("http://host.docker.internal:")
    assert isinstance(settings["apiKey"], str)
    assert ["gateway_token"] == [*config["secrets"]["providers"]]


@pytest.mark.parametrize(
    ("environment", "base_url", "api"),
    [
        ({"AI_BASE_URL": "http://gpu:11434/"}, "http://gpu:11434", "ollama"),
        ({"OLLAMA_BASE_URL": "http://gpu:11434"}, "http://gpu:11434", "ollama"),
        ({"AI_BASE_URL": "http://gpu:11434/v1/"}, "http://gpu:11434/v1", COMPLETIONS),
        ({"AI_BASE_URL": "http://a/v1", "OLLAMA_BASE_URL": "http://b"}, "http://a/v1", COMPLETIONS),
        ({"AI_BASE_URL": "http://a/v1", "AI_API": "openai-responses"}, "http://a/v1", "openai-responses"),
    ],
)
def test_the_protocol_follows_the_address_unless_it_is_given(
    bench: Bench, environment: dict[str, str], base_url: str, api: str
) -> None:
    config = bench.rendered({"AI_PROVIDER": "ollama", "AI_MODEL": "m"} | environment)

    _, settings = provider_of(config)
    assert (base_url, api) == (settings["baseUrl"], settings["api"])


def test_a_proxy_that_looks_for_another_header_gets_googles_token_there_too(bench: Bench) -> None:
    _, settings = provider_of(bench.rendered(with_proxy("google")))
    assert {"x-api-key": reference("google_api_key")} == settings["headers"]
    _, direct = provider_of(bench.rendered({"AI_PROVIDER": "google", "AI_MODEL": "m"}))
    assert "headers" not in direct


@pytest.mark.parametrize(("alias", "provider"), OPENCLAWS_ID.items())
def test_an_alias_finds_its_key_by_either_name(bench: Bench, alias: str, provider: str) -> None:
    bench.shell(f"mv /run/secrets/{alias.upper()}_API_KEY /run/secrets/hidden")
    try:
        _, settings = provider_of(bench.rendered({"AI_PROVIDER": alias, "AI_MODEL": "m"}))
        assert reference(f"{provider}_api_key") == settings["apiKey"]
    finally:
        bench.shell(f"mv /run/secrets/hidden /run/secrets/{alias.upper()}_API_KEY")


MODELS = [
    *("llama3.3", "qwen3:8b", "openai/gpt-oss-120b", "accounts/fireworks/models/llama-v3p3", "~anthropic/claude"),
    *("model[1m]", "@cf/meta/llama-3", "m(1)", "x=1,y#z", "a" * 200),
]


@pytest.mark.parametrize("model", MODELS)
def test_a_model_keeps_its_name(bench: Bench, model: str) -> None:
    config = bench.rendered({"AI_PROVIDER": "vllm", "AI_MODEL": model})
    assert {"model": {"primary": f"vllm/{model}"}} == config["agents"]["defaults"]
    assert [{"id": model, "name": model}] == provider_of(config)[1]["models"]


@pytest.mark.parametrize("model", ["m@v1", "a/b@latest", "@m", "claude-opus-4@20250514", "@cf/a@b"])
def test_a_model_whose_name_openclaw_would_cut_off_has_an_alias(bench: Bench, model: str) -> None:
    """OpenClaw takes what follows "@" for the name of an account."""
    config = bench.rendered({"AI_PROVIDER": "vllm", "AI_MODEL": model})
    expected = {"model": {"primary": "configured"}, "models": {f"vllm/{model}": {"alias": "configured"}}}
    assert expected == config["agents"]["defaults"]


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"AI_MODEL": "${HOME}"}, 'AI_MODEL is "${HOME}"'),
        ({"AI_MODEL": "two words"}, 'AI_MODEL is "two words"'),
        ({"AI_MODEL": "a" * 201}, "AI_MODEL is "),
        ({"AI_MODEL": "line\n"}, 'AI_MODEL is "line\\n"'),
        ({"AI_BASE_URL": "ftp://a"}, "AI_BASE_URL must be a plain http or https address"),
        ({"AI_BASE_URL": "http://user:hunter2@a"}, "AI_BASE_URL must be a plain http or https address"),
        ({"AI_BASE_URL": "http://a/?key=hunter2"}, "AI_BASE_URL must be a plain http or https address"),
        ({"AI_BASE_URL": "http://a/${HOME}"}, "AI_BASE_URL must be a plain http or https address"),
        ({"AI_BASE_URL": "keyring-proxy:9101"}, "AI_BASE_URL must be a plain http or https address"),
        ({"AI_API": "openai-responses"}, "AI_API is set without AI_BASE_URL"),
        ({"AI_BASE_URL": "http://a", "AI_API": "soap"}, 'AI_API is "soap"; it must be one of: anthropic-messages'),
        ({"AI_PROVIDER": "Grok"}, 'AI_PROVIDER is "Grok"; it must be one of: anthropic'),
        ({"CHANNEL_TYPE": "signal"}, 'CHANNEL_TYPE is "signal"; it must be one of: discord, slack, telegram, whatsapp'),
        ({"ALLOWED_ORIGINS": "*"}, 'ALLOWED_ORIGINS has "*"'),
        ({"ALLOWED_ORIGINS": "http://a http://b/page"}, 'ALLOWED_ORIGINS has "http://b/page"'),
    ],
)
def test_what_the_image_does_not_know_is_one_line(bench: Bench, environment: dict[str, str], said: str) -> None:
    ended = bench.entry_point(
        {"OPENCLAW_STATE_DIR": bench.new_directory(), "AI_PROVIDER": "vllm", "AI_MODEL": "m"} | environment, "render"
    )
    assert (EX_CONFIG, "", 1) == (ended.exit_code, ended.stdout, ended.stderr.count("\n"))
    assert ended.stderr.startswith(f"entrypoint: {said}")
    assert "hunter2" not in ended.stderr


def test_by_default_a_page_that_the_gateway_has_served_may_use_it_and_a_list_replaces_that(bench: Bench) -> None:
    environment = {"AI_PROVIDER": "vllm", "AI_MODEL": "m"}
    assert {"dangerouslyAllowHostHeaderOriginFallback": True} == bench.rendered(environment)["gateway"]["controlUi"]
    origins = ["https://bot.example.org", "http://10.0.0.7:20001"]
    listed = bench.rendered(environment | {"ALLOWED_ORIGINS": ", ".join(origins)})
    assert {"allowedOrigins": origins} == listed["gateway"]["controlUi"]
