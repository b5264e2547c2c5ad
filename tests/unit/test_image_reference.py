"""Valid image references, and the images that are allowed."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_manager.errors import ImageNotAllowedError, InvalidImageReferenceError
from container_manager.image_reference import check_image_allowed, check_image_reference, is_image_id

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"


@pytest.mark.parametrize(
    "reference",
    [
        "a",
        "busybox",
        "busybox:1.36",
        "busybox:latest",
        "library/busybox",
        "botmaker/openclaw:2026.9.6",
        "ghcr.io/openclaw/openclaw:2026.9.6",
        "ghcr.io/a/b/c/d/e:x",
        "localhost/a",
        "localhost:5000/a",
        "127.0.0.1:5000/a/b:1",
        "registry.example.com:443/a__b/c-d---e.f:T_a.g-1",
        "[::1]:5000/a",
        "[2001:db8::1]/a:1",
        "REGISTRY.example.com/a",
        f"busybox@{DIGEST}",
        f"busybox:1@{DIGEST}",
        f"localhost:5000/a/b:1@{DIGEST}",
        "a:_" + "x" * 127,
        "a/" * 127 + "a",
        DIGEST,
        HEX[:63],
        HEX + "/a",
        "5000:5000/a",
    ],
)
def test_a_reference_of_the_grammar_is_accepted(reference: str) -> None:
    check_image_reference(reference)


@pytest.mark.parametrize(
    "reference",
    [
        "",
        " ",
        "-v /:/host",
        "--privileged",
        "-a",
        "a b",
        " a",
        "a ",
        "a\n",
        "a\t",
        "a\0",
        "Busybox",
        "library/Busybox",
        "image:tag:tag",
        "a:",
        ":a",
        "a@",
        "a@sha256",
        "a@sha256:abc",
        f"a@{DIGEST}:1",
        f"a@{DIGEST}@{DIGEST}",
        "a@" + DIGEST[:-1] + "g",
        "sha256:" + HEX[:63] + "\n",
        "a/",
        "/a",
        "a//b",
        "./a",
        "../a",
        "a/../b",
        "a.",
        ".a",
        "a..b",
        "a___b",
        "_a",
        "a_",
        "a-",
        "http://registry/a",
        "unix:///run/a",
        "registry:port/a",
        "[::1/a",
        "[::g]:5000/a",
        "user:password@registry/a",
        "a:" + "x" * 129,
        "a:.x",
        "a:-x",
        "a:é",
        "é",
        "\u0430",
        "a$b",
        "a;b",
        "a`b`",
        "a\\b",
        HEX,
        "a" * 256,
        "a" * 10_000,
        "a/" * 5_000 + "a",
        "a:" + "b" * 10_000,
    ],
    ids=lambda value: ascii(value)[:50],
)
def test_anything_else_is_refused_in_a_short_sentence(reference: str) -> None:
    with pytest.raises(InvalidImageReferenceError) as caught:
        check_image_reference(reference)
    assert ["config.image"] == [violation.field for violation in caught.value.violations]
    assert ("INVALID_ARGUMENT", "INVALID_IMAGE_REFERENCE") == (caught.value.code, caught.value.reason)
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        (DIGEST, True),
        (HEX, False),
        (f"a@{DIGEST}", False),
        (DIGEST.upper(), False),
        (DIGEST + "\n", False),
        ("", False),
    ],
)
def test_only_a_whole_content_id_is_an_image_id(reference: str, expected: bool) -> None:
    assert expected is is_image_id(reference)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "unit", ["a-", "a.", "a_", "a", "a/", "-", "A-", "a--", "1.", "a__", "[", "[:", "a:", "@a", "0"]
)
@pytest.mark.parametrize("end", ["", "!", "/", ":", "@", "-", "A"])
@pytest.mark.parametrize("length", [600, 10_000])
def test_every_text_is_refused_quickly(unit: str, end: str, length: int) -> None:
    text = unit * (length // len(unit)) + end
    with pytest.raises(InvalidImageReferenceError):
        check_image_reference(text)


@given(st.text(st.sampled_from(string.ascii_letters + string.digits + "-_./:@[] \n"), max_size=700) | st.text())
def test_a_text_is_accepted_or_refused_and_nothing_else(text: str) -> None:
    try:
        check_image_reference(text)
    except InvalidImageReferenceError:
        return
    assert text.isascii()
    assert not set(text) & set(" \n\0'\"$\\")
    assert not text.startswith("-")


@pytest.mark.parametrize(
    ("reference", "patterns"),
    [
        ("anything/at:all", []),
        ("ghcr.io/openclaw/openclaw:1", ["ghcr.io/openclaw/*"]),
        ("ghcr.io/openclaw/a/b@sha256:0", ["ghcr.io/openclaw/*"]),
        ("busybox", ["alpine", "busybox"]),
        ("busybox:1", ["busybox:*"]),
        ("busybox:1.3", ["busybox:1.[0-9]"]),
        ("registry.example.com:5000/a/b:1", ["registry.example.com:5000/*"]),
        ("registry.example.com:5000/a/b:1", ["*.example.com:5000/a/*:1"]),
        ("[fd00::1]:5000/team/bot:1", ["[fd00::1]:5000/team/*"]),
        ("[fd00::1]/team/bot:1", ["[fd00::1]/team/*:[0-9]"]),
        ("[fd00::1]:5000/team/bot:1", ["[fd00::*]:*/team/*"]),
        ("r1.example.com/a:1", ["[a-z][0-9].example.com/a:*"]),
        ("a/b:1", ["[ab]/b:1"]),
        ("evil.example/a:1", ["*"]),
        ("evil.example/a:1", ["*/a:1"]),
        (DIGEST, ["sha256:*"]),
        (DIGEST, ["sha256:01*"]),
        (DIGEST, [DIGEST]),
        ("ba12cd34ef56", ["ba12cd34ef56"]),
        ("ba12cd34ef56", ["*"]),
        ("ba12cd34ef56:1", ["ba*"]),
        ("ba12cd34ef56@sha256:0", ["ba*"]),
        ("ba12cd34ef56/x", ["ba*"]),
        ("openclaw/openclaw:1", ["open*"]),
        ("busybox:1@sha256:0", ["busybox:*"]),
        ("busybox:1@sha256:0", ["busybox*"]),
        ("busybox@sha256:0", ["busybox*"]),
        ("busybox@sha256:0", ["busybox:*"]),
        ("busybox:1@sha256:0", ["busybox:1@sha256:0"]),
        ("busybox:1.3@sha256:0", ["busybox:1.*@sha256:*"]),
        ("busybox@sha256:0", ["busybox@*"]),
    ],
)
def test_an_image_that_matches_a_glob_is_allowed(reference: str, patterns: list[str]) -> None:
    check_image_allowed(reference, patterns)


@pytest.mark.parametrize(
    ("reference", "patterns"),
    [
        ("busybox", ["alpine"]),
        ("busybox:1", ["busybox"]),
        ("busybox", ["busybox:*"]),
        ("evil/ghcr.io/openclaw/a", ["ghcr.io/openclaw/*"]),
        ("ghcr.io/openclaw-evil/a", ["ghcr.io/openclaw/*"]),
        ("ghcrXio/openclaw/a", ["ghcr.io/openclaw/*"]),
        ("BUSYBOX", ["busybox"]),
        ("node:443/evil", ["node:*"]),
        ("node:443/evil:1", ["node:*"]),
        ("node:443/evil", ["node*"]),
        ("node.evil.example/x:1", ["node*"]),
        ("node.evil.example/x:1", ["node*/x:1"]),
        ("localhost/x:1", ["local*"]),
        ("f:5000/team/bot:1", ["[fd00::1]:5000/team/*"]),
        ("1.example/team/bot:1", ["[fd00::1]*/team/*"]),
        ("[fd00::2]:5000/team/bot:1", ["[fd00::1]:5000/team/*"]),
        ("NODE/x:1", ["*:1"]),
        ("evil.example/x:1", ["*:1"]),
        ("busybox:1@sha256:0", ["busybox:[0-9]"]),
        # An id, or the start of one, may name an image of any registry.
        *(
            (identifier, [glob])
            for identifier in (DIGEST, "sha256:ba12")
            for glob in ("*:*", "s*", "*:[0-9a-f]*", "sha*")
        ),
        *(
            (identifier, [glob])
            for identifier in ("ba12cd34ef56", "ba12", HEX[:63])
            for glob in ("b*", "ba12c*", "0*", "*a*")
        ),
        (DIGEST, ["sha256:1*"]),
        # The engine takes what the digest names, and does not look at the tag.
        ("busybox:1.3@sha256:0", ["busybox:1.*"]),
        ("busybox:1.3@sha256:0", ["busybox:1*"]),
        ("busybox:1.3@sha256:0", ["busy*:1*"]),
        ("busybox:1.3@sha256:0", ["busybox:?*"]),
        ("busybox@sha256:0", ["busybox"]),
        ("busybox@sha256:0", ["busybox:1*"]),
        ("busybox:1@sha256:0", ["busybox:1@sha256:1"]),
        ("busybox:1", ["busybox:1@*"]),
        ("busybox", ["busybox@*"]),
        ("a/b:1", ["a:*"]),
        ("ghcr.io/a:1/b", ["ghcr.io/a:*"]),
    ],
)
def test_an_image_that_matches_none_is_refused_with_the_list(reference: str, patterns: list[str]) -> None:
    with pytest.raises(ImageNotAllowedError, match="list of allowed images") as caught:
        check_image_allowed(reference, patterns)
    assert ("PERMISSION_DENIED", "IMAGE_NOT_ALLOWED") == (caught.value.code, caught.value.reason)
    assert {"image": reference} == caught.value.metadata
    assert all(pattern in str(caught.value) for pattern in patterns)


@pytest.mark.parametrize("reference", ["scratch", "scratch:1", "docker.io/library/scratch"])
def test_the_name_of_no_image_at_all_is_refused(reference: str) -> None:
    with pytest.raises(InvalidImageReferenceError):
        check_image_reference(reference)
