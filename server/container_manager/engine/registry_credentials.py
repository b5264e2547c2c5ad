"""Credentials for pulls, from a file in the format of Docker's ``config.json`` (``docker login`` writes it).

The file is read at each pull, so a later ``docker login`` or a rotated password needs no restart. Only the entry for
the image's repository counts, as :mod:`container_manager.engine.registry_keys` chooses it: a fault in another entry, or
in any other setting of the file, holds up nothing. Errors name the file and the registry, and never repeat a part of
the file or of what a credential helper printed.

An entry has, as in Docker's CLI (``cli/config/configfile``):

- ``auth``: ``user:password`` in base64, or ``username`` and ``password``;
- ``identitytoken`` or ``registrytoken``, sent as they are; none of these: the pull is anonymous.

``credHelpers`` and ``credsStore`` name programs ``docker-credential-NAME`` that take a registry on standard input
(docker-credential-helpers). A registry of its own in ``credHelpers`` comes before ``credsStore``, and both before
``auths``, unless they have nothing.
"""

from __future__ import annotations

import base64
import json
import os
import re
import select
import shutil
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from container_manager.config import RegistryConfig
from container_manager.engine.registry_keys import host_of, key_for, place_of
from container_manager.nonblocking_open import open_nonblocking

_MAX_BYTES = 1 << 20
_HELPER_SECONDS = 30.0
_VERSION_SECONDS = 3.0
_LOOK_SECONDS = 0.2
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# Exit codes of env(1) and shells for a program, such as an interpreter, that is missing or not executable.
_CANNOT_RUN = (126, 127)
_NOT_FOUND = b"credentials not found in native keychain"
_TOKENS = ("identitytoken", "registrytoken")
_ENTRY_KEYS = ("auth", "username", "password", *_TOKENS)
# A helper gives an identity token under this user name.
_IDENTITY_USER = "<token>"


class RegistryConfigError(Exception):
    """The file, or a helper that it names, gives no usable answer. ``str()`` names the file and holds no secret."""


class _NoAnswerError(Exception):
    """``str()``: what a helper did instead, after the words that name it."""


@dataclass(frozen=True)
class Credentials:
    """What a pull sends to a registry."""

    origin: str
    """Where they come from, or why there are none; for messages."""
    auth: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The engine's ``AuthConfig``; empty: an anonymous pull."""

    def header(self) -> str | None:
        """The value of the engine's header ``X-Registry-Auth``."""
        if not self.auth:
            return None
        return base64.urlsafe_b64encode(json.dumps(dict(self.auth)).encode()).decode("ascii")


def credentials_for(
    reference: str, config: RegistryConfig | None, given_up: threading.Event | None = None
) -> Credentials:
    """The credentials for the registry of an image. Takes as long as a helper does, which ends with ``given_up``.

    Raises :class:`RegistryConfigError`.
    """
    registry, repository = place_of(reference)
    host = host_of(registry)
    if config is None:
        return Credentials(f"there are no credentials for {host}")
    document = read_config(config)
    if auth := _from_helper(document, registry, repository, config.path, given_up) or _from_entry(
        document, registry, repository, config.path
    ):
        return Credentials(f"with the credentials for {host} in {config.path}", {"serveraddress": registry, **auth})
    return Credentials(f"{config.path} has no credentials for {host}")


def read_config(config: RegistryConfig) -> dict[str, Any]:
    """The file's content; empty if there is no file and there need not be one. Raises :class:`RegistryConfigError`."""
    path = config.path
    # As Docker's CLI, where a directory that this process may not enter counts as one without the file.
    if not config.required and not os.access(path, os.F_OK):
        return {}
    try:
        with open_nonblocking(path) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise RegistryConfigError(f"{path} is not a regular file")
            content = file.read(_MAX_BYTES + 1)
    except OSError as exc:
        raise RegistryConfigError(f"{path} cannot be read: {exc.strerror}") from None
    if len(content) > _MAX_BYTES:
        raise RegistryConfigError(f"{path} has more than {_MAX_BYTES} bytes")
    try:
        # As Go's decoder, and so Docker's CLI: a byte that is not UTF-8 holds up nothing elsewhere in the file.
        document = json.loads(content.decode(json.detect_encoding(content), "replace"))
    except (ValueError, RecursionError):
        # Not as the cause: json's error holds the whole text.
        raise RegistryConfigError(f"{path} is not JSON") from None
    if not isinstance(document, dict):
        raise RegistryConfigError(f"{path} is not a JSON object")
    return document


def faults_of(config: RegistryConfig) -> list[str]:
    """Everything in the file that would hold up a pull from some registry."""
    faults: list[str] = []

    def noting(check: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return check(*arguments)
        except RegistryConfigError as exc:
            faults.append(str(exc))
            return {}

    document, path = noting(read_config, config), config.path
    for registry, entry in noting(_section, document, "auths", path).items():
        noting(_decoded, entry, registry, path)
    names = [*noting(_section, document, "credHelpers", path).values(), document.get("credsStore")]
    for name in filter(None, names):
        noting(_check_program, name, path)
    return list(dict.fromkeys(faults))


def _from_entry(document: Mapping[str, Any], registry: str, repository: str, path: Path) -> dict[str, str]:
    entries = _section(document, "auths", path)
    key = key_for(registry, repository, entries)
    return {} if key is None else _decoded(entries[key], key, path)


def _decoded(entry: object, registry: str, path: Path) -> dict[str, str]:
    """What an entry of ``auths`` gives; empty: nothing."""
    fault = f"the entry of {path} for {ascii(registry)[1:-1]}"
    if not isinstance(entry, dict):
        raise RegistryConfigError(f"{fault} is not an object")
    given = {key: value for key, value in entry.items() if key in _ENTRY_KEYS}
    tokens = {key: value for key, value in given.items() if key in _TOKENS and value}
    if not all(isinstance(value, str) for value in tokens.values()):
        raise RegistryConfigError(f"{fault} has a token that is not a text")
    if tokens:
        return tokens
    # Docker's CLI uses the pair beside an empty auth.
    if given.get("auth"):
        return _split(given["auth"], fault)
    pair = {key: value for key, value in given.items() if key in ("username", "password")}
    if "auth" in given and not pair:
        raise RegistryConfigError(f"{fault} has an empty auth")
    if pair and not (len(pair) == 2 and all(isinstance(value, str) and value for value in pair.values())):
        raise RegistryConfigError(f"{fault} needs both username and password, as texts")
    return pair


def _split(auth: object, fault: str) -> dict[str, str]:
    username = password = ""
    # A UnicodeDecodeError holds the text, and must not become the context of ours.
    with suppress(ValueError):
        # Go's decoder, and so Docker's CLI, skips line breaks.
        text = re.sub(r"[\r\n]", "", auth.strip()) if isinstance(auth, str) else ""
        username, _, password = base64.b64decode(text, validate=True).decode().partition(":")
    password = password.strip("\0")
    if not (username and password):
        raise RegistryConfigError(f"{fault} has an auth that is not base64 of user:password")
    return {"username": username, "password": password}


def _from_helper(
    document: Mapping[str, Any], registry: str, repository: str, path: Path, given_up: threading.Event | None
) -> dict[str, str]:
    helpers = _section(document, "credHelpers", path)
    key = key_for(registry, repository, helpers)
    name = document.get("credsStore") if key is None else helpers[key]
    return _ask(_program(name, path), registry, path, given_up or threading.Event()) if name else {}


def _ask(program: str, registry: str, path: Path, given_up: threading.Event) -> dict[str, str]:
    """What a credential helper answers; empty: it has nothing for this registry."""
    fault = _helper(program, path)
    try:
        status, output = _run([program, "get"], registry.encode(), _HELPER_SECONDS, given_up)
    except OSError as exc:
        raise RegistryConfigError(f"{fault} cannot be run: {exc.strerror}") from None
    except _NoAnswerError as exc:
        raise RegistryConfigError(f"{fault} {exc}") from None
    if status:
        if _NOT_FOUND in output:
            return {}
        raise RegistryConfigError(f"{fault} failed for {host_of(registry)} with exit code {status}")
    answer = None
    # The error may hold the answer.
    with suppress(ValueError, RecursionError):
        answer = json.loads(output)
    username, secret = (answer.get(key) for key in ("Username", "Secret")) if isinstance(answer, dict) else (None, None)
    if not isinstance(username, str) or not isinstance(secret, str):
        raise RegistryConfigError(f"{fault} gave no usable answer for {host_of(registry)}")
    if not secret:
        return {}
    return {"identitytoken": secret} if username == _IDENTITY_USER else {"username": username, "password": secret}


def _run(command: list[str], text: bytes, seconds: float, given_up: threading.Event) -> tuple[int, bytes]:
    """The exit code and output of a program. Raises :class:`_NoAnswerError`, and ``OSError`` if it cannot be run."""
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    # In a session of its own, so that its children can be ended with it.
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=null, start_new_session=True) as process:
        try:
            return _answer(process, text, seconds, given_up)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise


def _answer(
    process: subprocess.Popen[bytes], text: bytes, seconds: float, given_up: threading.Event
) -> tuple[int, bytes]:
    ends = time.monotonic() + seconds
    # A pipe has room for the text.
    with suppress(BrokenPipeError), cast("IO[bytes]", process.stdin) as stdin:
        stdin.write(text)
    descriptor, output, is_read = cast("IO[bytes]", process.stdout).fileno(), b"", False
    readable = select.poll()
    readable.register(descriptor, select.POLLIN)
    while not given_up.is_set() and time.monotonic() < ends:
        if is_read:
            with suppress(subprocess.TimeoutExpired):
                return process.wait(_LOOK_SECONDS), output
        elif readable.poll(1_000 * _LOOK_SECONDS):
            chunk = os.read(descriptor, _MAX_BYTES)
            output, is_read = output + chunk, not chunk
            if len(output) > _MAX_BYTES:
                raise _NoAnswerError(f"answered with more than {_MAX_BYTES} bytes")
    raise _NoAnswerError(f"did not answer {'in time' if given_up.is_set() else f'within {seconds:.0f} s'}")


def _program(name: object, path: Path) -> str:
    if not isinstance(name, str) or not _HELPER_NAME.fullmatch(name):
        raise RegistryConfigError(f"{path} names a credential helper {ascii(name)[:64]}, which is not a program's name")
    program = shutil.which(f"docker-credential-{name}")
    if program is None:
        raise RegistryConfigError(f"{path} names the credential helper docker-credential-{name}, which is not in PATH")
    return program


def _helper(program: str, path: Path) -> str:
    return f"the credential helper {Path(program).name}, which {path} names,"


def _check_program(name: object, path: Path) -> None:
    """Ask a helper for its version, which concerns no registry. A helper may not know the question."""
    program = _program(name, path)
    with suppress(_NoAnswerError):
        try:
            status, _ = _run([program, "version"], b"", _VERSION_SECONDS, threading.Event())
        except OSError as exc:
            raise RegistryConfigError(f"{_helper(program, path)} cannot be run: {exc.strerror}") from None
        if status in _CANNOT_RUN:
            raise RegistryConfigError(f"{_helper(program, path)} cannot be run: exit code {status}")


def _section(document: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    section = document.get(name)
    if section is not None and not isinstance(section, dict):
        raise RegistryConfigError(f"{name} in {path} is not an object")
    return section or {}
