"""``botctl inspect``, and documents in YAML."""

from __future__ import annotations

import json
from typing import Any

import yaml
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from botctl.exit_codes import ExitCode
from botctl.rendering.yaml_text import yaml_text
from botmaker.container.v1 import container_manager_pb2 as pb
from container_manager.errors import ConfigNotReproducibleError, EngineUnavailableError
from tests.support.scripted_service import ScriptedService, entry
from tests.unit.botctl_runs import Run, complaint, document

BOT = "0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11"
OTHER = "d2000000-6f0a-4c55-9c3e-2f1d9a7e8b11"
CONFIG = pb.ContainerConfig(
    image="bot:1",
    ai_provider="anthropic",
    environment={"TZ": "UTC", "A": "true"},
    ports=[pb.PortBinding(container_port=80, host_ip="127.0.0.1", protocol=pb.PROTOCOL_UDP)],
    extra_hosts={"db": "10.0.0.1"},
    command=["sleep", ""],
    health_check=pb.HealthCheck(command=["true"], interval=Duration(seconds=30), timeout=Duration(nanos=250_000_000)),
    labels={"team": "blue"},
)
AS_DOCUMENT = {
    "image": "bot:1",
    "ai_provider": "anthropic",
    "ai_model": None,
    "channel_type": None,
    "environment": {"A": "true", "TZ": "UTC"},
    "ports": [{"container_port": 80, "host_port": 0, "host_ip": "127.0.0.1", "protocol": "udp"}],
    "network": None,
    "extra_hosts": {"db": "10.0.0.1"},
    "command": ["sleep", ""],
    "resources": None,
    "health_check": {
        "command": ["true"],
        "interval": "30s",
        "timeout": "0.250s",
        "start_period": None,
        "retries": 0,
    },
    "hostname": None,
    "labels": {"team": "blue"},
}


def test_inspect_shows_configuration_and_status_together(botctl_run: Run, scripted: ScriptedService) -> None:
    scripted.add(BOT, image_id="sha256:1")
    scripted.configs[BOT] = CONFIG
    shown = document(botctl_run("inspect", "0b"))
    (status,) = document(botctl_run("status", BOT, "-o", "json"))
    assert {"bot_id": BOT, "config": AS_DOCUMENT, "status": status} == shown
    assert shown == document(botctl_run("inspect", BOT, "-o", "json"))
    assert {field.name for field in pb.ContainerConfig.DESCRIPTOR.fields} == set(shown["config"])


def test_inspect_writes_the_same_in_yaml(botctl_run: Run, scripted: ScriptedService) -> None:
    scripted.add(BOT, error="a: b # c", labels={"yes": "no"})
    scripted.configs[BOT] = CONFIG
    shown = botctl_run("inspect", BOT, "-o", "yaml").stdout
    assert document(botctl_run("inspect", BOT)) == yaml.safe_load(shown)
    assert f'bot_id: "{BOT}"\nconfig:\n  image: "bot:1"\n' in shown


def test_limits_are_shown_as_numbers(botctl_run: Run, scripted: ScriptedService) -> None:
    scripted.add(BOT)
    scripted.configs[BOT] = pb.ContainerConfig(resources=pb.ResourceLimits(memory_bytes=1 << 30))
    shown = document(botctl_run("inspect", BOT))
    assert {"memory_bytes": 1 << 30, "nano_cpus": 0, "pids_limit": 0} == shown["config"]["resources"]


def test_a_configuration_that_cannot_be_made_again_is_null_and_the_status_is_shown(
    botctl_run: Run, scripted: ScriptedService
) -> None:
    scripted.add(BOT)
    scripted.fail("GetContainerConfig", ConfigNotReproducibleError("it has HostConfig.Binds"))
    result = botctl_run("inspect", BOT)
    assert f"{BOT}: it has HostConfig.Binds" == complaint(result, ExitCode.REFUSED)
    assert (None, "running") == (document(result)["config"], document(result)["status"]["state"])


def test_inspect_of_a_bot_without_a_container_is_not_found(botctl_run: Run, scripted: ScriptedService) -> None:
    scripted.add(OTHER)
    result = botctl_run("inspect", BOT)
    assert f"{BOT}: has no container; create one with: botctl create {BOT}" == complaint(result, ExitCode.NOT_FOUND)
    assert "" == result.stdout
    assert "no bot id starts with '0b'" in complaint(botctl_run("inspect", "0b"), ExitCode.NOT_FOUND)


def test_inspect_tells_any_other_error_and_writes_no_half_document(botctl_run: Run, scripted: ScriptedService) -> None:
    scripted.add(BOT)
    scripted.fail("GetContainerConfig", EngineUnavailableError("no engine"))
    result = botctl_run("inspect", BOT)
    assert "no engine" in complaint(result, ExitCode.NOT_NOW)
    assert "" == result.stdout


def test_inspect_has_no_table(botctl_run: Run) -> None:
    assert "json" in complaint(botctl_run("inspect", BOT, "-o", "table"), ExitCode.USAGE)


def test_every_document_can_be_yaml(botctl_run: Run, scripted: ScriptedService) -> None:
    for arguments in (["list"], ["status", BOT], ["version"], ["stop", BOT]):
        scripted.add(BOT)
        in_json, in_yaml = (botctl_run(*arguments, "-o", form) for form in ("json", "yaml"))
        assert json.loads(in_json.stdout) == yaml.safe_load(in_yaml.stdout)
        scripted.containers.clear()
    assert "[]\n" == botctl_run("list", "-o", "yaml").stdout


def test_a_stream_in_yaml_is_a_document_for_each_message(botctl_run: Run, scripted: ScriptedService) -> None:
    scripted.add(BOT)
    scripted.logs += [[entry(1), entry(2, b"- x: y")]] * 2
    in_json, in_yaml = (botctl_run("logs", BOT, "-o", form) for form in ("json", "yaml"))
    lines = [json.loads(line) for line in in_json.stdout.splitlines()]
    assert lines == list(yaml.safe_load_all(in_yaml.stdout))
    assert 2 == len(lines)


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["yes", "null", "~", "1e3", "0x1", "2026-11-24", "a: b", "# c", "- d", "\x85", "\u2028", "\ufeff", "\x7f", "'", '"']
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda each: st.lists(each, max_size=3) | st.dictionaries(_TEXT, each, max_size=3),
)


@given(value=_VALUES)
def test_whatever_a_document_holds_is_read_back_from_its_yaml(value: Any) -> None:
    assert value == yaml.safe_load(yaml_text(value))
