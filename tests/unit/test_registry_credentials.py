"""Credentials of registries: from which entry of the file they come, and what an odd file leads to."""

from __future__ import annotations

import base64
import json
import logging
import os
import traceback
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_manager.config import RegistryConfig
from container_manager.doctor import Verdict
from container_manager.doctor.registry_checks import check_registry_config
from container_manager.engine.registry_credentials import RegistryConfigError, credentials_for
from tests.support.descriptors import opened_below
from tests.unit.registry_files import ENCODED, HUB, PAIR, SECRET, Write, auth_of, written


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the file with the credentials."""
    return partial(written, tmp_path)


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
    ("reference", "key"),
    [
        ("reg.test/org-a/x:1", "reg.test/org-a"),
        ("reg.test/org-b/x:1", "reg.test/org-b"),
        ("reg.test/org-b/inner/x", "https://reg.test/org-b/inner/"),
        ("reg.test/org-b/inner/deep@sha256:" + "0" * 64, "reg.test/org-b/inner/deep"),
        ("reg.test/org-bc/x", "reg.test"),
        ("reg.test/x", "reg.test"),
        ("org/x", "docker.io/org"),
        ("x", "docker.io/library"),
        ("other/x", HUB),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_the_longest_path_that_leads_the_repository_counts(write: Write, reference: str, key: str, order: int) -> None:
    """Others of the registry, in whatever order, are for its other repositories."""
    hub, paths = (HUB, "docker.io/org", "docker.io/library"), ("org-b", "org-a", "org-b/inner/deep")
    keys = ["reg.test", *(f"reg.test/{path}" for path in paths), "https://reg.test/org-b/inner/", *hub][::order]
    auths = {each: {"identitytoken": each} for each in keys}
    assert {"identitytoken": key} == auth_of(reference, write({"auths": auths}))


def test_an_entry_with_the_path_of_other_repositories_does_not_count(write: Write) -> None:
    assert {} == auth_of("reg.test/org-b/x", write({"auths": {"reg.test/org-a": {"auth": ENCODED}}}))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_the_files_encoding_is_detected(write: Write, encoding: str) -> None:
    config = write("")
    config.path.write_bytes(json.dumps({"auths": {"reg.test": {"auth": ENCODED}}}).encode(encoding))
    assert PAIR == auth_of("reg.test/a", config)


def test_a_byte_that_is_not_utf_8_holds_up_nothing_elsewhere(write: Write) -> None:
    config = write("")
    entry = json.dumps({"auth": ENCODED}).encode()
    config.path.write_bytes(b'{"detachKeys": "\xff", "auths": {"o\xfcther.test": {}, "reg.test": %s}}' % entry)
    assert PAIR == auth_of("reg.test/a", config)


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


def test_the_credentials_show_in_no_representation(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    credentials = credentials_for("reg.test/a", write({"auths": {"reg.test": {"auth": ENCODED}}}))
    assert PAIR.items() <= credentials.auth.items()
    assert SECRET not in f"{credentials!r} {credentials} {caplog.text}"
