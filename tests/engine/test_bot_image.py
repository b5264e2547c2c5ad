"""The bot image: what its entry point renders and refuses, and the real gateway that it becomes.

Secrets reach the containers on volumes rather than in directories of the host, so that owner and mode are the same
for every user who runs the tests.
"""

from __future__ import annotations

import io
import json
import re
import secrets
import tarfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import docker
import pytest
from docker.models.containers import Container
from docker.models.volumes import Volume
from docker.types import Mount

SECRETS_DIRECTORY = "/run/secrets"
STATE_DIRECTORY = "/home/node/.openclaw"
CONFIG_FILE = f"{STATE_DIRECTORY}/openclaw.json"
NODE_UID = 1000
GATEWAY_PORT = "18789/tcp"
GATEWAY_START_SECONDS = 120.0

EX_NOINPUT = 66
EX_CONFIG = 78

ANTHROPIC_TELEGRAM = {"AI_PROVIDER": "anthropic", "AI_MODEL": "claude-opus-5", "CHANNEL_TYPE": "telegram"}
OPENAI_DISCORD = {"AI_PROVIDER": "openai", "AI_MODEL": "gpt-5.4", "CHANNEL_TYPE": "discord"}
OPENAI_SLACK = {"AI_PROVIDER": "openai", "AI_MODEL": "gpt-5.4", "CHANNEL_TYPE": "slack"}
GROQ = {"AI_PROVIDER": "groq", "AI_MODEL": "openai/gpt-oss-120b"}
OLLAMA = {"AI_PROVIDER": "ollama", "AI_MODEL": "qwen3:8b", "CHANNEL_TYPE": ""}
NO_CHANNEL = {"AI_PROVIDER": "anthropic", "AI_MODEL": "claude-opus-5"}


@dataclass(frozen=True)
class SecretFile:
    """One entry of a secrets directory."""

    data: bytes = b""
    mode: int = 0o600
    uid: int = NODE_UID
    symlink_to: str = ""
    hard_link_to: str = ""

    def member(self, name: str) -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.mode, info.uid, info.gid = self.mode, self.uid, self.uid
        if self.symlink_to:
            info.type, info.linkname = tarfile.SYMTYPE, self.symlink_to
        elif self.hard_link_to:
            info.type, info.linkname = tarfile.LNKTYPE, self.hard_link_to
        else:
            info.size = len(self.data)
        return info


def random_secrets(*names: str) -> dict[str, SecretFile]:
    """Secret files, each with a value that occurs nowhere else."""
    return {name: SecretFile(f"{secrets.randbelow(10**9)}:{secrets.token_hex(24)}\n".encode()) for name in names}


def values(files: Mapping[str, SecretFile]) -> list[bytes]:
    return [file.data.strip() for file in files.values()]


@dataclass(frozen=True)
class Outcome:
    """What a container that ended left behind."""

    exit_code: int
    stdout: str
    stderr: str
    container: Container


@dataclass
class Bots:
    """Makes containers of the bot image, hardened as the service hardens them, and removes all of them."""

    engine: docker.DockerClient
    image: str
    labels: dict[str, str]
    containers: list[Container] = field(default_factory=list)
    volumes: list[Volume] = field(default_factory=list)

    def volume(self) -> Volume:
        volume = self.engine.volumes.create(f"bot-image-{uuid.uuid4()}", labels=self.labels)
        self.volumes.append(volume)
        return volume

    def create(
        self,
        environment: Mapping[str, str],
        files: Mapping[str, SecretFile],
        command: Sequence[str] = (),
        state: Volume | None = None,
    ) -> Container:
        secrets_volume = self.volume()
        mounts = [Mount(SECRETS_DIRECTORY, str(secrets_volume.name), read_only=True)]
        if state is not None:
            mounts.append(Mount(STATE_DIRECTORY, str(state.name)))
        self._fill(secrets_volume, files)
        container = self.engine.containers.create(
            self.image,
            list(command) or None,
            environment=dict(environment),
            labels=self.labels,
            mounts=mounts,
            ports={GATEWAY_PORT: ("127.0.0.1", 0)},
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            init=True,
        )
        self.containers.append(container)
        return container

    def run(
        self, environment: Mapping[str, str], files: Mapping[str, SecretFile], command: Sequence[str] = ()
    ) -> Outcome:
        """Runs a container to its end."""
        container = self.create(environment, files, command)
        container.start()
        exit_code = int(container.wait(timeout=120)["StatusCode"])
        stdout = container.logs(stdout=True, stderr=False).decode()
        stderr = container.logs(stdout=False, stderr=True).decode()
        return Outcome(exit_code, stdout, stderr, container)

    def close(self) -> None:
        for container in self.containers:
            container.remove(force=True, v=True)
        for volume in self.volumes:
            volume.remove(force=True)

    def _fill(self, volume: Volume, files: Mapping[str, SecretFile]) -> None:
        """Unpacks the files into a volume, through a container that is never started."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for name, file in files.items():
                tar.addfile(file.member(name), io.BytesIO(file.data))
        mounts = [Mount(SECRETS_DIRECTORY, str(volume.name))]
        carrier = self.engine.containers.create(self.image, labels=self.labels, mounts=mounts)
        self.containers.append(carrier)
        assert carrier.put_archive(SECRETS_DIRECTORY, archive.getvalue())


@pytest.fixture(scope="module")
def bots(engine: docker.DockerClient, openclaw_image: str, test_labels: dict[str, str]) -> Iterator[Bots]:
    made = Bots(engine, openclaw_image, test_labels)
    try:
        yield made
    finally:
        made.close()


def wait_until(condition: Callable[[], bool], seconds: float, why_not: Callable[[], str]) -> None:
    """Polls until the condition holds; fails with a reason after that many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, why_not()
        time.sleep(0.2)


def read_tree(container: Container, path: str) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    """Every regular file at and below a path of a container, running or not."""
    chunks, _ = container.get_archive(path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        files = [(member, tar.extractfile(member)) for member in tar]
        return {member.name: (member, data.read()) for member, data in files if data is not None}


def rendered(container: Container) -> dict[str, Any]:
    """The configuration that the entry point wrote."""
    ((_, text),) = read_tree(container, CONFIG_FILE).values()
    config: dict[str, Any] = json.loads(text)
    return config


def file_reference(name: str) -> dict[str, str]:
    return {"source": "file", "provider": name.lower(), "id": "value"}


class Gateway:
    """A started gateway and its HTTP side."""

    def __init__(self, container: Container, files: Mapping[str, SecretFile]) -> None:
        self.container = container
        self.secret_files = files
        self.token = files["GATEWAY_TOKEN"].data.decode().strip()

    @property
    def address(self) -> str:
        self.container.reload()
        bindings = self.container.ports[GATEWAY_PORT]
        assert bindings, "the port is not published"
        return f"http://127.0.0.1:{bindings[0]['HostPort']}"

    def wait_until_live(self) -> None:
        wait_until(self._live_or_dead, GATEWAY_START_SECONDS, self.logs)
        assert self.container.status == "running", self.logs()

    def _live_or_dead(self) -> bool:
        self.container.reload()
        if self.container.status != "running":
            return True
        try:
            with urllib.request.urlopen(f"{self.address}/healthz", timeout=5) as response:
                return bool(json.load(response)["ok"])
        except (OSError, KeyError):  # not listening yet, or no port yet
            return False

    def invoke(self, token: str | None) -> tuple[int, str]:
        """Calls a tool that only reads; the status and body of the answer."""
        headers = {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        body = json.dumps({"tool": "session_status", "args": {}}).encode()
        request = urllib.request.Request(f"{self.address}/tools/invoke", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return int(response.status), response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def shell(self, script: str) -> bytes:
        exit_code, output = self.container.exec_run(["sh", "-c", script], user="node")
        assert exit_code == 0, output
        assert isinstance(output, bytes)
        return output

    def logs(self) -> str:
        return self.container.logs().decode()


@pytest.fixture(scope="module")
def gateway(bots: Bots) -> Gateway:
    """One live gateway, which the tests only look at."""
    files = random_secrets("GATEWAY_TOKEN", "ANTHROPIC_API_KEY", "TELEGRAM_TOKEN")
    started = Gateway(bots.create(ANTHROPIC_TELEGRAM, files), files)
    started.container.start()
    started.wait_until_live()
    return started


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
def test_rendered_config_passes_validation(bots: Bots, environment: dict[str, str], names: tuple[str, ...]) -> None:
    """What is rendered refers to exactly the secrets of its provider and channel, and OpenClaw accepts it."""
    files = random_secrets("GATEWAY_TOKEN", *names)

    outcome = bots.run(environment, files, ["openclaw", "config", "validate"])

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


def test_openclaw_finds_every_secret_and_no_plain_text(bots: Bots) -> None:
    """OpenClaw's own audit resolves each reference and finds nothing secret in the configuration."""
    files = random_secrets("GATEWAY_TOKEN", "ANTHROPIC_API_KEY", "TELEGRAM_TOKEN")

    outcome = bots.run(ANTHROPIC_TELEGRAM, files, ["openclaw", "secrets", "audit", "--check"])

    assert outcome.exit_code == 0, outcome.stdout + outcome.stderr


def test_config_is_private_to_its_owner(bots: Bots) -> None:
    """openclaw.json belongs to uid 1000 and has mode 0600; render prints the same text."""
    outcome = bots.run(OLLAMA, random_secrets("GATEWAY_TOKEN"), ["render"])

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
def test_refuses_an_environment_it_does_not_understand(bots: Bots, change: dict[str, str], expected: str) -> None:
    """A missing or unknown setting stops the entry point with one line that says what is allowed, and exit code 78."""
    files = random_secrets("GATEWAY_TOKEN", "ANTHROPIC_API_KEY", "TELEGRAM_TOKEN")

    outcome = bots.run(ANTHROPIC_TELEGRAM | change, files)

    assert outcome.exit_code == EX_CONFIG
    assert re.fullmatch(f"entrypoint: {expected}.*\n", outcome.stderr)
    assert outcome.stdout == ""
    assert "hunter2" not in outcome.stderr


@pytest.mark.parametrize("missing", ["GATEWAY_TOKEN", "ANTHROPIC_API_KEY", "TELEGRAM_TOKEN"])
def test_refuses_to_start_without_a_required_secret(bots: Bots, missing: str) -> None:
    """A required secret file that is missing stops the entry point with one line that names it, and exit code 66."""
    files = random_secrets("GATEWAY_TOKEN", "ANTHROPIC_API_KEY", "TELEGRAM_TOKEN")
    del files[missing]

    outcome = bots.run(ANTHROPIC_TELEGRAM, files)

    assert outcome.exit_code == EX_NOINPUT
    assert re.fullmatch(f"entrypoint: secret file {SECRETS_DIRECTORY}/{missing} is missing; .*\n", outcome.stderr)
    assert outcome.stdout == ""


SECRET = b"sk-do-not-show-me"


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
def test_refuses_a_secret_file_that_is_not_private(bots: Bots, file: SecretFile, expected: str) -> None:
    """A secret file that others can read, that is a link, of another owner, or empty: one line and exit code 66."""
    other = SecretFile(SECRET)  # what the links lead to
    files = random_secrets("GATEWAY_TOKEN", "TELEGRAM_TOKEN") | {"OTHER": other, "ANTHROPIC_API_KEY": file}

    outcome = bots.run(ANTHROPIC_TELEGRAM, files, ["render"])

    assert outcome.exit_code == EX_NOINPUT
    expected_line = f"entrypoint: secret file {SECRETS_DIRECTORY}/ANTHROPIC_API_KEY {expected}\n"
    assert re.fullmatch(expected_line, outcome.stderr), outcome.stderr
    assert SECRET.decode() not in outcome.stderr


def test_gateway_accepts_its_token_and_nothing_else(gateway: Gateway) -> None:
    """Live under the full hardening, the gateway serves who shows the token of the file, and refuses anyone else."""
    status, body = gateway.invoke(gateway.token)
    assert status == 200, body
    assert json.loads(body)["ok"] is True

    assert gateway.invoke("not-the-token")[0] == 401
    assert gateway.invoke("")[0] == 401
    assert gateway.invoke(None)[0] == 401


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
    gateway.invoke(gateway.token)
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

    # The places were really read, those of the gateway itself among them.
    assert environments.count(b"AI_PROVIDER=anthropic") >= 2
    assert any(name.endswith("openclaw.json") for name in places)

    leaks = [name for name, data in places.items() for value in values(gateway.secret_files) if value in data]
    assert leaks == []


def test_sigterm_ends_the_gateway_cleanly_and_state_survives(bots: Bots) -> None:
    """With a state volume: SIGTERM reaches the gateway, the exit code is 0; a changed openclaw.json is kept aside."""
    state = bots.volume()
    files = random_secrets("GATEWAY_TOKEN", "OPENAI_API_KEY", "DISCORD_TOKEN")
    gateway = Gateway(bots.create(OPENAI_DISCORD, files, state=state), files)
    gateway.container.start()
    gateway.wait_until_live()
    expected = rendered(gateway.container)
    gateway.shell(f"echo '{{\"mine\": 1}}' >{CONFIG_FILE}")

    gateway.container.kill("SIGTERM")

    assert gateway.container.wait(timeout=60)["StatusCode"] == 0, gateway.logs()

    again = bots.create(OPENAI_DISCORD, files, ["render"], state=state)
    again.start()
    assert again.wait(timeout=60)["StatusCode"] == 0
    assert rendered(again) == expected
    kept = [data for name, (_, data) in read_tree(again, STATE_DIRECTORY).items() if ".replaced-" in name]
    assert [json.loads(data) for data in kept] == [{"mine": 1}]
