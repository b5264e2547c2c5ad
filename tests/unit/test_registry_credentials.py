"""Credentials of registries: from which entry or helper they come, and what an odd file leads to."""

from __future__ import annotations

import base64
import json
import logging
import os
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_manager.config import RegistryConfig
from container_manager.deadline import Deadline
from container_manager.doctor import Verdict
from container_manager.doctor.registry_checks import check_registry_config
from container_manager.engine.client import EngineClient
from container_manager.engine.images import ImagePuller
from container_manager.engine.long_calls import LongCalls
from container_manager.engine.registry_credentials import RegistryConfigError, credentials_for
from container_manager.engine.sdk_client import SdkClient
from container_manager.errors import EngineUnavailableError, ImagePullDeniedError, ImagePullFailedError
from container_manager.operation import carry_out
from tests.support.descriptors import opened_below
from tests.support.fake_engine import FakeEngine, Json, Stream, error
from tests.support.waiting import wait_until

SECRET = "s3cret:with:colons"
ENCODED = base64.b64encode(f"user:{SECRET}".encode()).decode()
HUB = "https://index.docker.io/v1/"

Write = Callable[..., RegistryConfig]
Helper = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file; text as it is, anything else as JSON."""

    def call(content: Any, *, required: bool = True) -> RegistryConfig:
        path = tmp_path / "registries.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        path.chmod(0o600)
        return RegistryConfig(path, required)

    return call


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Helper:
    """Puts a credential helper with this name and shell script into PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def call(name: str, script: str) -> None:
        path = tmp_path / f"docker-credential-{name}"
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o700)

    return call


def answer(username: str = "user", secret: str = SECRET) -> str:
    """A helper's script that checks its input and answers these."""
    found = json.dumps({"ServerURL": "x", "Username": username, "Secret": secret})
    return f'test "$1" = get && cat >"$0.asked" && echo \'{found}\''


def auth_of(reference: str, config: RegistryConfig | None) -> dict[str, str]:
    """The engine's ``AuthConfig`` for a pull, without the address."""
    return {key: value for key, value in credentials_for(reference, config).auth.items() if key != "serveraddress"}


PAIR = {"username": "user", "password": SECRET}


@pytest.mark.parametrize(
    ("reference", "key"),
    [
        ("reg.test/a:1", "reg.test"),
        ("reg.test/a:1", "https://reg.test"),
        ("reg.test/a:1", "https://reg.test/v2/"),
        ("reg.test:5000/a/b@sha256:" + "0" * 64, "reg.test:5000"),
        ("localhost/a", "localhost"),
        ("a", HUB),
        ("a/b:1", HUB),
        ("docker.io/a/b", HUB),
        ("index.docker.io/a", "docker.io"),
        ("a", "index.docker.io"),
    ],
)
def test_the_entry_of_the_images_registry_counts(write: Write, reference: str, key: str) -> None:
    config = write({"auths": {"other.test": {"auth": "!"}, key: {"auth": ENCODED}}})
    assert auth_of(reference, config) == PAIR


@pytest.mark.parametrize("key", ["reg.test:5000", "sub.reg.test", "test", HUB])
def test_the_entry_of_another_registry_does_not(write: Write, key: str) -> None:
    credentials = credentials_for("reg.test/a", write({"auths": {key: {"auth": ENCODED}}}))
    assert (None, {}) == (credentials.header(), credentials.auth)
    assert "registries.json has no credentials for reg.test" in credentials.origin


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"auth": ENCODED}, PAIR),
        ({"auth": ENCODED, "email": None, "other": 1}, PAIR),
        ({"auth": base64.b64encode(b"user:p\0\0").decode()}, {"username": "user", "password": "p"}),
        *(({"auth": f"{end}{ENCODED[:7]}{end}{ENCODED[7:]}{end}"}, PAIR) for end in ("\n", "\r\n", "\r")),
        ({"username": "user", "password": SECRET}, PAIR),
        ({"auth": "", "username": "user", "password": SECRET}, PAIR),
        ({"auth": None, "username": "user", "password": SECRET}, PAIR),
        ({"auth": ENCODED, "username": "other", "password": "other"}, PAIR),
        ({"identitytoken": "t"}, {"identitytoken": "t"}),
        ({"auth": base64.b64encode(b"0000:").decode(), "identitytoken": "t"}, {"identitytoken": "t"}),
        ({"auth": ENCODED, "identitytoken": ""}, PAIR),
        ({"registrytoken": "t"}, {"registrytoken": "t"}),
        ({}, {}),
        ({"email": "a@b"}, {}),
    ],
)
def test_what_an_entry_gives(write: Write, entry: dict[str, Any], expected: dict[str, str]) -> None:
    assert expected == auth_of("reg.test/a", write({"auths": {"reg.test": entry}}))


ODD_ENTRIES = [
    None,
    "text",
    [],
    {"auth": ""},
    {"auth": None},
    {"auth": 5},
    {"auth": "not base64 " + SECRET},
    {"auth": base64.b64encode(b"no-colon").decode()},
    {"auth": base64.b64encode(b":").decode()},
    {"auth": base64.b64encode(b"user:").decode()},
    {"auth": base64.b64encode(b"\xff\xfe:" + SECRET.encode()).decode()},
    {"username": "user"},
    {"auth": "", "username": "user"},
    {"auth": 5, "username": "user", "password": "p"},
    {"username": "user", "password": 5},
    {"identitytoken": 5},
]
ODD_FILES = [
    "",
    "{",
    "null",
    "[]",
    '"text"',
    "\0",
    "[" * 100_000,
    '{"auths": 5}',
    '{"auths": []}',
    '{"credHelpers": "x"}',
    '{"credHelpers": {"reg.test": 5}}',
    '{"credHelpers": {"reg.test": "../../bin/sh"}}',
    '{"credHelpers": {"reg.test": "not-there"}}',
    '{"credsStore": "not-there"}',
    '{"credsStore": ["x"]}',
    " " * 2_000_000,
    *(json.dumps({"auths": {"reg.test": entry}}) for entry in ODD_ENTRIES),
]


@pytest.mark.parametrize("content", ODD_FILES, ids=lambda content: content[:60])
def test_an_odd_file_is_an_error_that_names_it_and_holds_nothing_of_it(write: Write, content: str) -> None:
    config = write(content)
    with pytest.raises(RegistryConfigError, match=r"registries\.json") as caught:
        credentials_for("reg.test/a", config)
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value.__context__)
    for part in (SECRET, ENCODED, "no-colon"):
        assert part not in told


@pytest.mark.parametrize("content", ODD_FILES, ids=lambda content: content[:60])
def test_the_doctor_finds_every_odd_file(write: Write, content: str) -> None:
    findings = check_registry_config(write(content))
    assert [Verdict.FAILED] == [finding.verdict for finding in findings]
    assert "registries.json" in findings[0].detail
    assert SECRET not in findings[0].detail


@pytest.mark.parametrize("entry", ODD_ENTRIES, ids=str)
def test_an_odd_entry_of_another_registry_holds_up_nothing(write: Write, entry: Any) -> None:
    assert PAIR == auth_of("reg.test/a", write({"auths": {"other.test": entry, "reg.test": {"auth": ENCODED}}}))


@pytest.mark.parametrize(
    "settings",
    [
        {"HttpHeaders": None},
        {"HttpHeaders": {"X-Meta": None}},
        {"proxies": None},
        {"proxies": {"default": {"httpProxy": 5}}},
        {"credHelpers": None, "credsStore": None},
        {"credHelpers": {"other.test": "not-there"}},
        {"credsStore": ""},
        {"detachKeys": [], "plugins": None, "currentContext": 7},
    ],
    ids=str,
)
def test_other_settings_of_the_file_hold_up_nothing(write: Write, settings: dict[str, Any]) -> None:
    assert PAIR == auth_of("reg.test/a", write({"auths": {"reg.test": {"auth": ENCODED}}, **settings}))


NAMES = st.sampled_from(["auths", "reg.test", "auth", "credHelpers", "credsStore", "identitytoken", "username"])
CONTENT = st.recursive(
    st.none() | st.text() | st.integers(), lambda one: st.lists(one) | st.dictionaries(NAMES, one), max_leaves=8
)


@given(CONTENT)
def test_any_content_gives_credentials_or_an_error_that_names_the_file(
    tmp_path_factory: pytest.TempPathFactory, content: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(content))
    path.chmod(0o600)
    config = RegistryConfig(path)
    verdicts = {finding.verdict for finding in check_registry_config(config)}
    try:
        told = credentials_for("reg.test/a", config).origin
    except RegistryConfigError as exc:
        told = str(exc)
        verdicts -= {Verdict.FAILED}
    assert "any.json" in told
    assert verdicts <= {Verdict.OK, Verdict.FAILED}


def test_without_a_file_pulls_are_anonymous_unless_the_file_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "none" / "config.json"
    assert {} == auth_of("reg.test/a", None)
    assert {} == auth_of("reg.test/a", RegistryConfig(path, required=False))
    with pytest.raises(RegistryConfigError, match=r"config\.json cannot be read: No such file or directory"):
        credentials_for("reg.test/a", RegistryConfig(path))
    assert [Verdict.OK] == [each.verdict for each in check_registry_config(RegistryConfig(path, required=False))]
    assert [Verdict.FAILED] == [each.verdict for each in check_registry_config(RegistryConfig(path))]


@pytest.mark.parametrize("required", [True, False])
def test_what_is_no_file_is_an_error_at_once(tmp_path: Path, required: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(RegistryConfigError, match=str(place)):
            credentials_for("reg.test/a", RegistryConfig(place, required))
    assert [] == opened_below(tmp_path)


@pytest.mark.parametrize(("mode", "verdict"), [(0o600, "OK"), (0o400, "OK"), (0o640, "WARNING"), (0o604, "WARNING")])
def test_the_doctor_warns_of_a_file_that_others_may_read(write: Write, mode: int, verdict: str) -> None:
    config = write({"auths": {"reg.test": {"auth": ENCODED}}})
    config.path.chmod(mode)
    assert [Verdict[verdict]] == [finding.verdict for finding in check_registry_config(config)]


@pytest.mark.parametrize(
    ("reference", "settings", "asked"),
    [
        ("reg.test/a", {"credHelpers": {"reg.test": "one"}}, "reg.test"),
        ("reg.test/a", {"credHelpers": {"reg.test": "one"}, "credsStore": "not-there"}, "reg.test"),
        ("reg.test/a", {"credHelpers": {"other.test": "not-there"}, "credsStore": "one"}, "reg.test"),
        ("reg.test:5000/a", {"credsStore": "one", "auths": {"reg.test:5000": {}}}, "reg.test:5000"),
        ("a/b", {"credsStore": "one"}, HUB),
        ("a/b", {"credHelpers": {"docker.io": "one"}}, HUB),
    ],
)
def test_a_credential_helper_is_asked(
    write: Write, helper: Helper, reference: str, settings: dict[str, Any], asked: str
) -> None:
    helper("one", answer())
    config = write(settings)
    assert PAIR == auth_of(reference, config)
    assert asked == config.path.with_name("docker-credential-one.asked").read_text()


def test_a_helper_may_give_an_identity_token(write: Write, helper: Helper) -> None:
    helper("one", answer("<token>", "t"))
    assert {"identitytoken": "t"} == auth_of("reg.test/a", write({"credsStore": "one"}))


@pytest.mark.parametrize("script", ["echo credentials not found in native keychain; exit 1", answer("", "")])
def test_where_a_helper_has_nothing_the_files_entry_counts(write: Write, helper: Helper, script: str) -> None:
    helper("one", script)
    assert PAIR == auth_of("reg.test/a", write({"credsStore": "one", "auths": {"reg.test": {"auth": ENCODED}}}))
    assert {} == auth_of("reg.test/a", write({"credsStore": "one"}))


@pytest.mark.parametrize(
    "script",
    [
        f"echo {SECRET}; echo {SECRET} >&2; exit 3",
        f"echo {SECRET}",
        f'echo \'{{"Username": null, "Secret": "{SECRET}"}}\'',
        "exit 0",
        f"echo '[\"{SECRET}\"]'",
        "kill -9 $$",
    ],
)
def test_a_helper_that_fails_is_an_error_that_names_it_and_repeats_nothing_of_its_output(
    write: Write, helper: Helper, script: str, capfd: pytest.CaptureFixture[str]
) -> None:
    helper("one", script)
    config = write({"credsStore": "one"})
    with pytest.raises(RegistryConfigError, match=r"docker-credential-one, which .*registries\.json names") as caught:
        credentials_for("reg.test/a", config)
    told = (
        "".join(traceback.format_exception(caught.value)) + repr(caught.value.__context__) + "".join(capfd.readouterr())
    )
    assert SECRET not in told


def test_a_helper_that_does_not_answer_is_ended(write: Write, helper: Helper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("container_manager.engine.registry_credentials._HELPER_SECONDS", 0.05)
    helper("one", "exec sleep 100000")
    with pytest.raises(RegistryConfigError, match=r"docker-credential-one.*did not answer"):
        credentials_for("reg.test/a", write({"credsStore": "one"}))


@pytest.mark.parametrize("then", ["", "exec sleep 100000"])
def test_a_helper_that_prints_too_much_is_ended(write: Write, helper: Helper, then: str) -> None:
    helper("one", f"head -c 2000000 /dev/zero; {then}")
    with pytest.raises(RegistryConfigError, match=r"docker-credential-one.*with more than 1048576 bytes"):
        credentials_for("reg.test/a", write({"credsStore": "one"}))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("#!/gone/sh\n", "No such file or directory"),
        ("#!/usr/bin/env gone\n", "exit code 127"),
        ("\0", "Exec format error"),
        ("#!/bin/sh\nexit 1\n", None),
        ("#!/bin/sh\nexec sleep 100000\n", None),
    ],
)
def test_the_doctor_finds_a_helper_that_cannot_be_run(
    write: Write, helper: Helper, monkeypatch: pytest.MonkeyPatch, content: str, problem: str | None
) -> None:
    """One that does not know the doctor's question, or does not answer it, may serve pulls."""
    monkeypatch.setattr("container_manager.engine.registry_credentials._VERSION_SECONDS", 0.5)
    helper("one", "")
    config = write({"credsStore": "one"})
    config.path.with_name("docker-credential-one").write_text(content)
    told = [(finding.verdict, finding.detail) for finding in check_registry_config(config)]
    assert [Verdict.OK if problem is None else Verdict.FAILED] == [verdict for verdict, _ in told]
    assert (
        problem is None or f"docker-credential-one, which {config.path} names, cannot be run: {problem}" in told[0][1]
    )


@pytest.fixture
def calls(engine: FakeEngine) -> Any:
    calls = LongCalls(engine.url, timeout_seconds=10)
    yield calls
    calls.close()


@pytest.mark.parametrize(
    "script",
    [
        "echo $$ >$0.pids; exec sleep 100000",
        "sleep 100000 & echo $$ $! >$0.pids; wait",
        "sleep 100000 >&- & echo $$ $! >$0.pids; exec >&-; wait",
    ],
)
def test_a_helper_that_hangs_ends_with_the_service(write: Write, helper: Helper, calls: LongCalls, script: str) -> None:
    """The exit of the process waits for the thread that asks it. The helper's children end as well."""
    config = write({"credsStore": "one"})
    pids = config.path.with_name("docker-credential-one.pids")
    helper("one", script)
    puller = ImagePuller(calls, config)
    with ThreadPoolExecutor(1) as pool:
        pull = pool.submit(carry_out, puller.pull("reg.test/a:1", Deadline(60)))
        wait_until(lambda: pids.exists() and pids.read_text().strip(), "the helper runs")
        calls.close()
        with pytest.raises(EngineUnavailableError):
            pull.result(60)
    wait_until(lambda: not any(map(is_alive, pids.read_text().split())), "the helper has ended", 10)


def is_alive(pid: str) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_the_file_is_read_at_each_pull(engine: FakeEngine, calls: LongCalls, write: Write) -> None:
    puller = ImagePuller(calls, write({}))
    engine.on("POST", "/images/create", Stream([]))
    expected = []
    for password in (None, "first", "second"):
        if password is not None:
            encoded = base64.b64encode(f"user:{password}".encode()).decode()
            write({"auths": {"reg.test": {"auth": encoded}}})
            expected.append({"serveraddress": "reg.test", "username": "user", "password": password})
        carry_out(puller.pull("reg.test/a:1", Deadline(60)))
    headers = [request.headers.get("X-Registry-Auth") for request in engine.seen("POST", "/images/create")]
    assert None is headers[0]
    assert expected == [json.loads(base64.urlsafe_b64decode(header)) for header in headers[1:]]


def test_a_pull_with_an_odd_file_fails_before_the_engine_is_asked(
    engine: FakeEngine, calls: LongCalls, write: Write
) -> None:
    with pytest.raises(ImagePullFailedError, match=r"image reg\.test/a:1 was not pulled: .*registries\.json") as caught:
        carry_out(ImagePuller(calls, write("{")).pull("reg.test/a:1", Deadline(60)))
    assert {"image": "reg.test/a:1"} == caught.value.metadata
    assert [] == engine.seen("POST", "/images/create")


def test_a_denied_pull_says_where_its_credentials_come_from(engine: FakeEngine, calls: LongCalls, write: Write) -> None:
    engine.on("POST", "/images/create", error(500, "unauthorized: authentication required"))
    for config, told in (
        (None, r"\(there are no credentials for reg\.test\)"),
        (write({}), r"\(.*registries\.json has no credentials for reg\.test\)"),
    ):
        with pytest.raises(ImagePullDeniedError, match=told):
            carry_out(ImagePuller(calls, config).pull("reg.test/a:1", Deadline(60)))
    config = write({"auths": {"reg.test": {"auth": ENCODED}}})
    with pytest.raises(ImagePullDeniedError, match=r"\(with the credentials for reg\.test in .*registries\.json\)"):
        carry_out(ImagePuller(calls, config).pull("reg.test/a:1", Deadline(60)))


ODD_HOMES = [*ODD_FILES, '{"HttpHeaders": null}', '{"proxies": null}', '{"HttpHeaders": {"X-Evil": "1"}}', "a pipe"]


@pytest.mark.parametrize("content", ODD_HOMES, ids=lambda content: content[:60])
def test_no_call_to_the_engine_reads_the_users_docker_configuration(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    directory = tmp_path / ".docker"
    directory.mkdir()
    if content == "a pipe":
        os.mkfifo(directory / "config.json")
    else:
        (directory / "config.json").write_text(content)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(directory))
    engine.on("GET", "/containers/*/json", Json({"Id": "c1"}))
    engine.on("POST", "/containers/create", Json({"Id": "c1"}))
    client = EngineClient(engine.url, timeout_seconds=10)
    client.ping(Deadline(10))
    assert {"Id": "c1"} == client.inspect_container("c1", Deadline(10))
    assert "c1" == client.create_container("a", {"Image": "a", "Env": ["A=1"]})
    client.close()
    assert ["A=1"] == engine.seen("POST", "/containers/create")[0].body["Env"]
    assert "X-Evil" not in {name for request in engine.requests for name in request.headers}


@pytest.mark.parametrize("url", ["unix:///run/x.sock", "tcp://127.0.0.1:2375"])
def test_the_sdks_client_has_what_the_sdks_own_constructor_gives_it(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = pytest.importorskip("docker")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    theirs, ours = docker.APIClient(url, version="1.41"), SdkClient(url, "1.41")
    assert vars(theirs).keys() == vars(ours).keys()
    plain = {key: value for key, value in vars(theirs).items() if isinstance(value, (str, int, type(None)))}
    assert plain == {key: vars(ours)[key] for key in plain} | {"trust_env": True}
    assert list(theirs.adapters) == list(ours.adapters)


def test_the_credentials_show_in_no_representation(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    credentials = credentials_for("reg.test/a", write({"auths": {"reg.test": {"auth": ENCODED}}}))
    assert PAIR.items() <= credentials.auth.items()
    assert SECRET not in f"{credentials!r} {credentials} {caplog.text}"
