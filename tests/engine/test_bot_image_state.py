"""The bot image: where its configuration is, who may write it, and what is said when it cannot be written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.bot_image import SecretFile
from tests.support.bot_image_bench import FULL, READ_ONLY, SINGLE_FILE, Bench

EX_CANTCREAT = 73
EX_CONFIG = 78
VLLM = {"AI_PROVIDER": "vllm", "AI_MODEL": "m"}
HOME = "/home/node"


@pytest.fixture(scope="module", autouse=True)
def token(bench: Bench) -> None:
    bench.put_secrets({"GATEWAY_TOKEN": SecretFile(b"token"), "TELEGRAM_TOKEN": SecretFile(b"token")})


@pytest.mark.parametrize(
    ("environment", "path"),
    [
        ({}, f"{HOME}/.openclaw/openclaw.json"),
        ({"OPENCLAW_STATE_DIR": "/tmp/paths/a"}, "/tmp/paths/a/openclaw.json"),
        ({"OPENCLAW_STATE_DIR": " ~/b "}, f"{HOME}/b/openclaw.json"),
        ({"OPENCLAW_STATE_DIR": " "}, f"{HOME}/.openclaw/openclaw.json"),
        ({"OPENCLAW_HOME": "/tmp/paths/c"}, "/tmp/paths/c/.openclaw/openclaw.json"),
        ({"OPENCLAW_HOME": "~/d", "OPENCLAW_STATE_DIR": "~/e"}, f"{HOME}/d/e/openclaw.json"),
        ({"OPENCLAW_HOME": "undefined"}, f"{HOME}/.openclaw/openclaw.json"),
        ({"HOME": "/tmp/paths/f"}, "/tmp/paths/f/.openclaw/openclaw.json"),
        ({"OPENCLAW_CONFIG_PATH": "~/g/my.json", "OPENCLAW_STATE_DIR": "/tmp/paths/h"}, f"{HOME}/g/my.json"),
        ({"OPENCLAW_PROFILE": "work"}, f"{HOME}/.openclaw/openclaw.json"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_openclaws_own_path_variables_are_followed(bench: Bench, environment: dict[str, str], path: str) -> None:
    ended = bench.entry_point(VLLM | environment, "render")
    assert ended.exit_code == 0, ended.stderr
    assert ended.stdout == bench.shell(f"cat {path} && rm {path}")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_openclaw_finds_the_configuration_where_the_entry_point_wrote_it(bench: Bench) -> None:
    """Each variable, and all of them together. It takes OpenClaw seconds to print a path."""
    for environment in (
        {"OPENCLAW_STATE_DIR": "~/x"},
        {"OPENCLAW_HOME": "~/y"},
        {"OPENCLAW_CONFIG_PATH": "~/z/my.json", "OPENCLAW_STATE_DIR": "~/x", "OPENCLAW_HOME": "/tmp/w"},
        {"OPENCLAW_PROFILE": "work"},
    ):
        bench.shell(f"rm -rf {HOME}/x {HOME}/y {HOME}/z {HOME}/.openclaw/* /tmp/w")
        bench.rendered(VLLM | {"OPENCLAW_STATE_DIR": ""} | environment)
        found = bench.run(("openclaw", "config", "file"), environment).stdout.strip().splitlines()[-1]
        assert '"vllm/m"' in bench.shell(f"cat {found.replace('~', HOME, 1)}")


@pytest.mark.parametrize("argument", ["--profile=work", "--profile", "--dev"])
def test_a_profile_of_the_command_line_is_refused_since_its_configuration_is_elsewhere(
    bench: Bench, argument: str
) -> None:
    ended = bench.entry_point(VLLM, "gateway", argument, "work")
    assert EX_CONFIG == ended.exit_code
    assert "set OPENCLAW_STATE_DIR instead\n" in ended.stderr


class Configuration:
    """The configuration in one state directory."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.state = bench.new_directory()
        self.said = ""

    def start(self, **environment: str) -> dict[str, Any]:
        """What a start with this environment writes."""
        ended = self.bench.entry_point(VLLM | {"OPENCLAW_STATE_DIR": self.state} | environment, "render")
        assert ended.exit_code == 0, ended.stderr
        self.said = ended.stderr
        config: dict[str, Any] = json.loads(ended.stdout)
        return config

    def write(self, config: object, name: str = "openclaw.json") -> None:
        self.bench.write(f"{self.state}/{name}", config if isinstance(config, str) else json.dumps(config))


@pytest.fixture
def configuration(bench: Bench) -> Configuration:
    return Configuration(bench)


def test_what_openclaw_writes_stays(configuration: Configuration) -> None:
    """The first approval, `openclaw config set` and the control page write openclaw.json. It was moved aside."""
    config = configuration.start(CHANNEL_TYPE="telegram")
    config["commands"] = {"ownerAllowFrom": ["telegram:1"]}
    config["channels"]["telegram"]["allowFrom"] = ["1"]
    config["agents"]["defaults"]["thinkingDefault"] = "low"
    configuration.write(config)

    assert config == configuration.start(CHANNEL_TYPE="telegram")
    assert "" == configuration.said
    # Also when the environment has changed, whose own settings then go.
    changed = configuration.start(AI_MODEL="other")
    assert config["commands"] == changed["commands"]
    assert {"allowFrom": ["1"]} == changed["channels"]["telegram"]
    assert {"primary": "vllm/other"} == changed["agents"]["defaults"]["model"]
    assert "low" == changed["agents"]["defaults"]["thinkingDefault"]
    assert ["gateway_token"] == [*changed["secrets"]["providers"]]


def test_where_the_environment_decides_a_change_is_not_kept_and_a_line_says_so(configuration: Configuration) -> None:
    config = configuration.start()
    expected = json.loads(json.dumps(config))
    config["gateway"]["auth"] = {"mode": "none"}
    config["agents"]["defaults"]["model"]["primary"] = "vllm/other"
    configuration.write(config)

    assert expected == configuration.start()
    assert '"gateway.auth.mode, agents.defaults.model.primary"\n' in configuration.said


def test_the_owners_file_lies_below_the_environment_and_above_openclaws_own_writes(
    configuration: Configuration,
) -> None:
    owners = "{ // JSON5\n gateway: {port: 1, reload: {mode: 'off'}}, session: {idleMinutes: 5}, agents: {list: [1]}, }"
    configuration.write(owners, "openclaw.user.json")
    config = configuration.start()
    assert ({"mode": "off"}, 18789) == (config["gateway"]["reload"], config["gateway"]["port"])
    assert ({"idleMinutes": 5}, [1]) == (config["session"], config["agents"]["list"])
    assert "$include" not in config, "with it, OpenClaw cannot write"

    config["session"] = {"idleMinutes": 7, "scope": "global"}
    configuration.write(config)
    assert {"idleMinutes": 5, "scope": "global"} == configuration.start()["session"]
    assert '"session.idleMinutes"' in configuration.said

    # What the owner withdraws goes, and what OpenClaw wrote stays.
    configuration.write("{}", "openclaw.user.json")
    withdrawn = configuration.start()
    assert {"scope": "global"} == withdrawn["session"]
    assert "reload" not in withdrawn["gateway"]
    assert "list" not in withdrawn["agents"]


@pytest.mark.parametrize("text", ["{", "[]", "null", '"text"', ""])
def test_an_owners_file_that_is_no_object_is_refused_in_one_line(configuration: Configuration, text: str) -> None:
    configuration.write(text, "openclaw.user.json")
    environment = VLLM | {"OPENCLAW_STATE_DIR": configuration.state}
    ended = configuration.bench.entry_point(environment, "render")
    said = f"entrypoint: {configuration.state}/openclaw.user.json is not a JSON5 object; correct it, or remove it\n"
    assert (EX_CONFIG, "", said) == ended


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_a_configuration_that_is_no_object_is_kept_aside(configuration: Configuration, text: str) -> None:
    expected = configuration.start()
    configuration.write(text)
    assert expected == configuration.start()
    assert "openclaw.json is not a JSON5 object; it is kept as " in configuration.said
    assert text == configuration.bench.shell(f"cat {configuration.state}/openclaw.json.replaced-*")


def test_a_configuration_of_the_image_before_is_replaced(configuration: Configuration) -> None:
    """It had a checksum in place of a record, and included the owner's file."""
    configuration.write('{"$include": "./openclaw.user.json", "channels": {"telegram": {"enabled": true}}}')
    configuration.bench.shell(f"cd {configuration.state} && sha256sum openclaw.json >openclaw.json.sha256")
    config = configuration.start()
    assert not {"channels", "$include"} & {*config}
    assert "" == configuration.said
    assert "" == configuration.bench.shell(f"cd {configuration.state} && ls | grep -e replaced -e sha256 || true")


def test_a_configuration_from_elsewhere_is_kept_aside(configuration: Configuration) -> None:
    """As BotMaker writes it: this version of OpenClaw refuses to start with two of its keys."""
    botmakers = {
        "gateway": {"port": 19000, "controlUi": {"allowInsecureAuth": True}},
        "agents": {"defaults": {"workspace": "/app/botdata/workspace", "memorySearch": {"enabled": False}}},
    }
    configuration.write(botmakers)
    config = configuration.start()
    assert "openclaw.json was not written by this image; it is kept as " in configuration.said
    assert {"model": {"primary": "vllm/m"}} == config["agents"]["defaults"]
    assert "allowInsecureAuth" not in config["gateway"]["controlUi"]
    assert botmakers == json.loads(configuration.bench.shell(f"cat {configuration.state}/openclaw.json.replaced-*"))
    # From then on, what OpenClaw writes there stays.
    configuration.write(config | {"session": {"scope": "global"}})
    assert {"scope": "global"} == configuration.start()["session"]


def test_a_start_that_was_killed_between_its_two_files_takes_nothing_of_its_own_for_openclaws(
    configuration: Configuration,
) -> None:
    configuration.start(CHANNEL_TYPE="telegram")
    configuration.bench.shell(f"cp {configuration.state}/openclaw.json {configuration.state}/before")
    without = configuration.start()
    # The record is the second start's, the configuration still the first one's.
    configuration.bench.shell(f"mv {configuration.state}/before {configuration.state}/openclaw.json")
    again = configuration.start()
    assert without["agents"] == again["agents"]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (
            READ_ONLY,
            "EROFS at {0}/openclaw.rendered.json.tmp: its file system is read-only; mount a directory there that",
        ),
        (FULL, "ENOSPC at {0}/openclaw.json: the disk is full; free space on the host"),
        (SINGLE_FILE, "EBUSY at {0}/openclaw.json: the file is a mount of its own; mount its directory instead"),
    ],
    ids=["read-only", "full", "a-single-file"],
)
def test_exit_73_names_the_cause_that_is_a_mount(bench: Bench, state: str, said: str) -> None:
    bench.shell(f"chown 1000 {SINGLE_FILE}", user="0")

    ended = bench.entry_point(VLLM | {"OPENCLAW_STATE_DIR": state}, "render")

    assert (EX_CANTCREAT, "", 1) == (ended.exit_code, ended.stdout, ended.stderr.count("\n"))
    assert ended.stderr.startswith(f"entrypoint: {state}/openclaw.json cannot be written: {said.format(state)}")


@pytest.mark.parametrize(
    ("arrange", "said"),
    [
        ("mkdir -m 0500 {0}", "EACCES at {0}/openclaw.rendered.json.tmp: uid 1000 has no right to it"),
        (
            "mkdir {0}; touch {0}/openclaw.json; chmod 0 {0}/openclaw.json",
            "EACCES at {0}/openclaw.json: uid 1000 has no",
        ),
        ("touch {0}", "EEXIST at {0}: something that is not a directory is in the place of a directory"),
        ("mkdir -p {0}/openclaw.json", "EISDIR at {0}/openclaw.json: a directory is in the place of a file"),
        ("ln -s {0} {0}", "ELOOP at {0}"),
        ("ln -s /nowhere/at/all {0}", "ENOENT at {0}: a directory of this path is missing, or it is a link to nothing"),
    ],
    ids=["not-ours", "unreadable", "a-file", "a-directory", "a-loop", "a-dangling-link"],
)
def test_exit_73_names_the_cause(configuration: Configuration, arrange: str, said: str) -> None:
    configuration.bench.shell(arrange.format(configuration.state))

    ended = configuration.bench.entry_point(VLLM | {"OPENCLAW_STATE_DIR": configuration.state}, "render")

    assert (EX_CANTCREAT, "", 1) == (ended.exit_code, ended.stdout, ended.stderr.count("\n"))
    place = f"entrypoint: {configuration.state}/openclaw.json cannot be written: "
    assert ended.stderr.startswith(place + said.format(configuration.state))
