"""Rules for the requests of BotProvisioner: names, paths, sizes and numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from container_manager.errors import InvalidConfigError
from container_manager.provisioning.requests import check_files, check_secret_names, check_secrets

KIB, MIB = 1024, 1024 * 1024


def refused(check: Callable[[Any], None], value: Any) -> str:
    """The message of the refusal."""
    with pytest.raises(InvalidConfigError) as caught:
        check(value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["A", "_", "0", "GATEWAY_TOKEN", "a.b-c_d", "x" * 128, "A..B"])
def test_a_secret_name_of_the_grammar_is_accepted(name: str) -> None:
    check_secrets({name: b"x"})
    check_secret_names([name])


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "-x",
        "a/b",
        "../x",
        "/etc/passwd",
        "a\0",
        "a b",
        "a\n",
        "é",
        "x" * 129,
        "a\\b",
        "\uff10",
    ],
)
def test_any_other_secret_name_is_refused_without_being_repeated(name: str) -> None:
    """The name may be a value that a careless caller has mistaken for one."""
    for message in (refused(check_secrets, {name: b"x"}), refused(check_secret_names, ["GOOD", name])):
        assert "a name must match [A-Za-z0-9_][A-Za-z0-9_.-]{0,127}" in message
        assert len(name) < 4 or name not in message


def test_a_secret_has_at_most_64_kib() -> None:
    check_secrets({"A": bytes(64 * KIB)})
    assert "secrets['A']: must be at most 65536 bytes, not 65537" in refused(check_secrets, {"A": bytes(64 * KIB + 1)})


def test_a_file_has_at_most_1_mib() -> None:
    check_files({"a": bytes(MIB)})
    assert "files['a']: must be at most 1048576 bytes, not 1048577" in refused(check_files, {"a": bytes(MIB + 1)})


def test_a_call_has_at_most_64_files() -> None:
    for check, field in ((check_secrets, "secrets"), (check_files, "files")):
        check({f"n{number}": b"" for number in range(64)})
        expected = f"{field}: must have at most 64 entries, not 65"
        assert expected == refused(check, {f"n{number}": b"" for number in range(65)})
    check_secret_names([f"n{number}" for number in range(64)])
    assert "names: must have at most 64" in refused(check_secret_names, [f"n{number}" for number in range(65)])


def test_a_call_has_at_most_3_mib_in_all() -> None:
    check_files({"a": bytes(MIB), "b": bytes(MIB), "c": bytes(MIB)})
    message = refused(check_files, {"a": bytes(MIB), "b": bytes(MIB), "c": bytes(MIB), "d": b"1"})
    assert "files: must be at most 3145728 bytes in all, not 3145729; call it repeatedly" == message
    check_secrets({f"n{number}": bytes(64 * KIB) for number in range(48)})
    assert "3145729" in refused(check_secrets, {"one": b"1", **{f"n{n}": bytes(64 * KIB) for n in range(48)}})


@pytest.mark.parametrize(
    "path", ["a", "a/b", ".hidden", "a/.b/c", "...", "a b/é", "/".join("abcd" * 8), "x" * 255, "a\nb", "-x", "~"]
)
def test_a_relative_path_is_accepted(path: str) -> None:
    check_files({path: b""})


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("", "must have no empty part"),
        ("/", "must be relative"),
        ("/etc/passwd", "must be relative"),
        (".", 'neither "." nor ".."'),
        ("..", 'neither "." nor ".."'),
        ("../a", 'neither "." nor ".."'),
        ("a/../b", 'neither "." nor ".."'),
        ("a/..", 'neither "." nor ".."'),
        ("a/./b", 'neither "." nor ".."'),
        ("a//b", "must have no empty part"),
        ("a/", "must have no empty part"),
        ("a\0b", "must not contain NUL"),
        ("/".join("abc" * 11), "must have at most 32 parts"),
        ("x" * 256, "must have at most 255 bytes in each part"),
        ("é" * 128, "must have at most 255 bytes in each part"),
        ("/".join(["x" * 255] * 5), "1024 in all"),
    ],
)
def test_any_other_path_is_refused_with_the_reason(path: str, problem: str) -> None:
    assert problem in refused(check_files, {path: b"", "good": b""})


def test_a_file_below_another_file_of_the_same_call_is_refused() -> None:
    assert "files['a/b/c']: is below the file 'a/b'" == refused(check_files, {"a/b/c": b"", "a/b": b""})


def test_no_content_is_repeated() -> None:
    secret = b"a-secret-value-that-is-long" * 4000
    for message in (
        refused(check_secrets, {"A": secret, "B": b""}),
        refused(check_secrets, {"no name": secret}),
        refused(check_files, {"a": secret * 20}),
        refused(check_files, {"..": secret}),
    ):
        assert "a-secret-value" not in message


def test_many_invalid_paths_are_reported_by_the_first_eight() -> None:
    with pytest.raises(InvalidConfigError) as caught:
        check_files({f"/{number}": b"" for number in range(20)})
    assert 8 == len(caught.value.violations)
