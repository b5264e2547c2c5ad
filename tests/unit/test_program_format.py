# ruff: noqa: PLR0917 - fixtures and parameters
"""What the first bytes and the owner of a file say about running it. In doubt, it can be run."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from container_manager.backends.docker import emulated_programs
from container_manager.backends.docker.container_files import ContainerFiles, File
from container_manager.backends.docker.program_format import Reader, why_not_run, why_not_run_by_name
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.errors import CommandNotExecutableError, CommandNotFoundError, StartFailedError
from tests.support.fake_engine import FakeEngine, Json, Request, error
from tests.unit.documents import LABELS, archived, inspected, path_stat

EXEC, NOT_FOUND = CommandNotExecutableError, CommandNotFoundError
SCRIPT = b"#!/bin/sh\n"
NO_CAPABILITIES = {"CapDrop": ["ALL"]}
VERSION = {"ApiVersion": "1.41", "Arch": "amd64", "KernelVersion": os.uname().release}


@pytest.fixture
def client(engine: FakeEngine) -> Iterator[EngineClient]:
    engine.on("GET", "/version", Json(VERSION))
    client = EngineClient(engine.url, timeout_seconds=5)
    yield client
    client.close()


def judged(
    engine: FakeEngine,
    client: EngineClient,
    files: Mapping[str, tuple[Any, ...]],
    user: str = "",
    command: str = "/run",
    **changes: Any,
) -> tuple[type[StartFailedError] | None, bool]:
    """The error of a command, and whether it is the engine's, in a container with these files.

    Each has content, mode, owner, capabilities and, of a link, its target.
    """

    def stat(request: Request) -> Json:
        found = files.get(request.query["path"])
        folder = any(path.startswith(request.query["path"] + "/") for path in files)
        return path_stat(found[1], *found[4:]) if found else path_stat(1 << 31 | 0o755) if folder else error(404, "no")

    engine.on("HEAD", "/containers/*/archive", stat)
    engine.on("GET", "/containers/*/archive", lambda request: archived(*files[request.query["path"]][:4]))
    config = {"User": user, "Env": [], "WorkingDir": "/closed"}
    document = inspected(config=config, **{"HostConfig": NO_CAPABILITIES, **changes})
    reader = Reader(client, document, ContainerFiles(client, document, Deadline(5)), Deadline(5))
    problem = why_not_run_by_name(reader, command, "it")
    return (None, False) if problem is None else (problem.error, problem.by_engine)


def elf(
    machine: int = 62, *, wide: bool = True, order: str = "<", loader: bytes = b"/lib/ld.so", kind: int = 3
) -> bytes:
    head = bytes([0x7F, *b"ELF", 2 if wide else 1, 1 if order == "<" else 2, 1]) + b"\0" * 9
    size, entry = (64, 56) if wide else (52, 32)
    at = size + 2 * entry
    if wide:
        header = struct.pack(order + "HHIQQQIHHHHHH", kind, machine, 1, 0, size, 0, 0, size, entry, 2, 0, 0, 0)
        entries = [struct.pack(order + "IIQQQQQQ", t, 4, at, 0, 0, len(loader) + 1, 0, 1) for t in (1, 3)]
    else:
        header = struct.pack(order + "HHIIIIIHHHHHH", kind, machine, 1, 0, size, 0, 0, size, entry, 2, 0, 0, 0)
        entries = [struct.pack(order + "IIIIIIII", t, at, 0, 0, len(loader) + 1, 0, 4, 1) for t in (1, 3)]
    return head + header + b"".join(entries) + loader + b"\0"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (SCRIPT, None),
        (b"#! \t/bin/sh -e\n", None),
        (b"#!/bin/sh", None),
        (b"#!/bin/sh\r\n", NOT_FOUND),
        (b"#!/bin/none -x\n", NOT_FOUND),
        (b"#!/bin/sh\xa0\n", NOT_FOUND),
        (b"#!/etc/plain\n", EXEC),
        (b"#!\n", EXEC),
        (b"#! \t\n", EXEC),
        (b"#!/" + b"x" * 300 + b"\n", None),
        (b"echo text\n", None),
        ("# umläüt\n".encode(), None),
        (b"echo\n\0", None),
        (b"", EXEC),
        (b"\x90\0\n", EXEC),
        (b"\x7fELF", EXEC),
        (elf(), None),
        (elf(3, wide=False), None),
        (elf(kind=1), EXEC),
        (elf(kind=2), None),
        (elf(183), EXEC),
        (elf(8, order=">"), EXEC),
        (elf(loader=b"/lib/none.so"), NOT_FOUND),
        (elf(3, wide=False, loader=b"/lib/none.so"), NOT_FOUND),
        (elf(loader=b"/lib/\xe9.so"), NOT_FOUND),
        (elf()[:100], None),
    ],
    ids=repr,
)
def test_the_first_bytes_are_judged_as_the_kernel_and_the_init_do(
    engine: FakeEngine, client: EngineClient, content: bytes, expected: type[StartFailedError] | None
) -> None:
    engine.on("GET", "/images/*/json", Json({"Architecture": "amd64"}))
    files = {"/bin/sh": (elf(), 0o755, 0), "/etc/plain": (SCRIPT, 0o644, 0), "/lib/ld.so": (elf(), 0o755, 0)}
    assert (expected, False) == judged(engine, client, {**files, "/run": (content, 0o755, 0)})


QEMU = (
    "enabled\ninterpreter /usr/bin/qemu-aarch64\nflags: OCF\noffset 0\nmagic 7f454c460201010000000000000000000200b700\n"
    "mask ffffffffffffff00fffffffffffffffffeffffff\n"
)
WINE = "enabled\ninterpreter /usr/bin/wine\nflags: \noffset 0\nmagic 4d5a\n"


@pytest.mark.parametrize(
    ("engines", "images", "expected"),
    [
        ("amd64", "amd64", EXEC),
        ("386", "386", EXEC),
        ("amd64", "arm64", None),
        ("riscv64", "amd64", None),
        ("arm64", "arm64", None),
    ],
)
def test_a_program_for_another_machine_is_a_doubt_if_the_host_may_emulate_it(
    engine: FakeEngine,
    client: EngineClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    engines: str,
    images: str,
    expected: type[StartFailedError] | None,
) -> None:
    """An image for another machine is a sign of that, and what an unknown machine runs is unknown."""
    # Most containers do not see the formats of their host.
    monkeypatch.setattr(emulated_programs, "_FORMATS", tmp_path)
    engine.on("GET", "/version", Json({**VERSION, "Arch": engines}))
    engine.on("GET", "/images/*/json", Json({"Architecture": images}))
    assert expected is judged(engine, client, {"/run": (elf(183, loader=b""), 0o755, 0)})[0]


@pytest.mark.parametrize(
    ("kernel", "status", "expected"),
    [
        (os.uname().release, "enabled", EXEC),
        (os.uname().release, "disabled", EXEC),
        # Of a virtual machine, or of another host.
        ("6.12.54-linuxkit", "enabled", None),
    ],
)
def test_a_host_without_an_emulator_does_not_run_an_image_for_another_machine(
    engine: FakeEngine,
    client: EngineClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kernel: str,
    status: str,
    expected: type[StartFailedError] | None,
) -> None:
    monkeypatch.setattr(emulated_programs, "_FORMATS", tmp_path)
    (tmp_path / "status").write_text(f"{status}\n")
    (tmp_path / "one").write_text(WINE)
    engine.on("GET", "/version", Json({**VERSION, "KernelVersion": kernel}))
    engine.on("GET", "/images/*/json", Json({"Architecture": "arm64"}))
    assert expected is judged(engine, client, {"/run": (elf(183, loader=b""), 0o755, 0)})[0]
    assert expected is judged(engine, client, {"/run": (b"\xca\xfe\xba\xbe\0", 0o755, 0)})[0]


@pytest.mark.parametrize("content", [elf(183, loader=b""), b"MZ\0\n"], ids=repr)
def test_an_engine_that_is_not_on_a_unix_socket_may_be_on_a_host_with_the_same_kernel_and_an_emulator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(emulated_programs, "_FORMATS", tmp_path)
    (tmp_path / "status").write_text("enabled\n")
    with FakeEngine(tcp=True) as engine, closing(EngineClient(engine.url, timeout_seconds=5)) as client:
        engine.on("GET", "/version", Json(VERSION))
        engine.on("GET", "/images/*/json", Json({"Architecture": "arm64"}))
        assert (None, False) == judged(engine, client, {"/run": (content, 0o755, 0)})


@pytest.mark.parametrize("content", [b"MZ\0\n", b"\xca\xfe\xba\xbe\0\0\n"])
def test_a_program_that_often_has_an_interpreter_is_a_doubt_where_the_formats_are_not_seen(
    engine: FakeEngine, client: EngineClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(emulated_programs, "_FORMATS", tmp_path)
    assert (None, False) == judged(engine, client, {"/run": (content, 0o755, 0)})


@pytest.mark.parametrize(("engines", "machine"), [("arm", 183), ("386", 62)])
def test_an_engine_of_32_bits_may_be_on_a_kernel_of_64(
    engine: FakeEngine,
    client: EngineClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    engines: str,
    machine: int,
) -> None:
    monkeypatch.setattr(emulated_programs, "_FORMATS", tmp_path)
    (tmp_path / "status").write_text("enabled\n")
    engine.on("GET", "/version", Json({**VERSION, "Arch": engines}))
    engine.on("GET", "/images/*/json", Json({"Architecture": engines}))
    assert (None, False) == judged(engine, client, {"/run": (elf(machine, loader=b""), 0o755, 0)})


@pytest.mark.parametrize(
    ("content", "format_", "is_on", "expected"),
    [
        (elf(183, loader=b""), QEMU, "enabled", None),
        (elf(183, loader=b""), QEMU, "disabled", EXEC),
        (elf(183, loader=b""), QEMU.replace("enabled", "disabled"), "enabled", EXEC),
        (elf(8, loader=b""), QEMU, "enabled", EXEC),
        (b"MZ\0\n", WINE, "enabled", None),
        (b"MZ\0\n", "enabled\ninterpreter /wine\nextension .exe\n", "enabled", EXEC),
        (b"MZ\0\n", "enabled\ninterpreter /wine\nextension run\n", "enabled", None),
        (b"", WINE, "enabled", EXEC),
    ],
)
def test_what_the_kernel_runs_by_an_interpreter_of_its_format_can_be_run(
    engine: FakeEngine,
    client: EngineClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
    format_: str,
    is_on: str,
    expected: type[StartFailedError] | None,
) -> None:
    monkeypatch.setattr(emulated_programs, "_FORMATS", tmp_path)
    (tmp_path / "status").write_text(f"{is_on}\n")
    (tmp_path / "register").touch(0o200)
    (tmp_path / "one").write_text(format_)
    engine.on("GET", "/images/*/json", Json({"Architecture": "amd64"}))
    assert expected is judged(engine, client, {"/run": (content, 0o755, 0)})[0]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"node", None),
        (b" \tnode \t", None),
        (b"/usr/bin/node", None),
        (b"node\r", NOT_FOUND),
        (b"gone", NOT_FOUND),
        # The kernel passes one argument.
        (b"node --flag", NOT_FOUND),
        (b"/etc/plain", EXEC),
        (b"crlf", NOT_FOUND),
        # What it does with these is its own business.
        (b"", None),
        (b"-S gone", None),
        (b"-S gone\r", None),
        (b"A=1", None),
        # It runs itself for ever.
        (b"/run", None),
    ],
    ids=repr,
)
def test_the_program_that_env_looks_up_is_judged_too(
    engine: FakeEngine, client: EngineClient, line: bytes, expected: type[StartFailedError] | None
) -> None:
    program = (elf(loader=b""), 0o755, 0)
    others = {"/etc/plain": (SCRIPT, 0o644, 0), "/usr/bin/crlf": (b"#!/bin/sh\r\n", 0o755, 0)}
    files = {"/usr/bin/env": program, "/usr/bin/node": program, **others}
    script = (b"#!/usr/bin/env " + line + b"\n", 0o755, 0)
    assert (expected, False) == judged(engine, client, {**files, "/run": script})
    nested = {"/run": (b"#!/nested\n", 0o755, 0), "/nested": script}
    assert (expected, False) == judged(engine, client, {**files, **nested})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"/bin/sh -e\r", EXEC),
        (b"/bin/bash  -eu -o pipefail\r", EXEC),
        (b"/usr/bin/python3.11 -u\r", EXEC),
        (b"/usr/local/bin/node --no-warnings\r", EXEC),
        (b"/bin/sh -e", None),
        # They take it, as part of a value.
        (b"/usr/bin/python3 -Wignore\r", None),
        (b"/usr/bin/python3 -X utf8\r", None),
        (b"/usr/bin/node --title=bot\r", None),
        (b"/usr/bin/perl -w\r", None),
        (b"/bin/sh script\r", None),
    ],
    ids=repr,
)
def test_an_option_of_an_interpreter_that_ends_with_cr_cannot_be_run(
    engine: FakeEngine, client: EngineClient, line: bytes, expected: type[StartFailedError] | None
) -> None:
    interpreter = line.split()[0].decode()
    files = {interpreter: (elf(loader=b""), 0o755, 0), "/run": (b"#!" + line + b"\n", 0o755, 0)}
    assert (expected, False) == judged(engine, client, files)


@pytest.mark.parametrize(
    ("command", "mode", "owner", "user", "expected"),
    [
        ("/closed/run", 0o700, 0, "1000", (EXEC, True)),
        ("/closed/run", 0o700, 1234, "", (EXEC, True)),
        ("/script", 0o700, 0, "1000", (EXEC, False)),
        ("/closed/run", 0o700, 0, "", (None, False)),
        ("/closed/run", 0o711, 0, "1000", (None, False)),
        ("/closed/run", 0o710, 0, "1000", (None, False)),
        ("/closed/run", 0o700, 100_000, "1000", (None, False)),
        # Its process has been put into the working directory.
        ("./run", 0o700, 0, "1000", (None, False)),
    ],
)
def test_a_program_below_a_directory_that_its_user_cannot_enter_cannot_be_run(
    engine: FakeEngine, client: EngineClient, command: str, mode: int, owner: int, user: str, expected: Any
) -> None:
    program, script = (elf(loader=b""), 0o755, 0), (b"#!/closed/run\n", 0o755, 0)
    files = {"/closed": (b"", 1 << 31 | mode, owner), "/closed/run": program, "/script": script}
    assert expected == judged(engine, client, files, user, command)


@pytest.mark.parametrize(
    ("box", "name", "expected"),
    [
        ("busybox", b"applet", None),
        ("toybox", b"applet", None),
        ("toybox", b"applet\r", NOT_FOUND),
        ("anybox", b"applet", NOT_FOUND),
    ],
)
def test_an_env_of_many_programs_may_run_one_without_a_file(
    engine: FakeEngine, client: EngineClient, box: str, name: bytes, expected: Any
) -> None:
    program = (elf(loader=b""), 0o755, 0)
    files = {f"/bin/{box}": program, "/usr/bin/env": (b"", 1 << 27 | 0o777, 0, b"", f"/bin/{box}")}
    script = (b"#!/usr/bin/env " + name + b"\n", 0o755, 0)
    assert (expected, False) == judged(engine, client, {**files, "/run": script})


PASSWD = b"root:x:0:0:root:/root:/bin/sh\nbroken\nnode:x:1000:1000::/home/node:/bin/sh\n"


@pytest.mark.parametrize(
    ("mode", "owner", "user", "expected"),
    [
        (0o755, 1234, "", (None, False)),
        (0o700, 0, "", (None, False)),
        (0o700, 0, "0:0", (None, False)),
        (0o700, 1000, "node", (None, False)),
        (0o700, 1000, "1000:5", (None, False)),
        # Without capabilities, root is a user like any other.
        (0o700, 1000, "", (EXEC, True)),
        (0o700, 1000, "root", (EXEC, True)),
        (0o700, 0, "node", (EXEC, True)),
        (0o711, 0, "node", (EXEC, False)),
        (0o711, 0, "", (None, False)),
        (0o077, 1000, "node", (EXEC, True)),
        (0o377, 1000, "node", (EXEC, False)),
        # The user may be in the file's group, and may have another name for its number.
        (0o750, 0, "node", (None, False)),
        (0o700, 0, "nobody", (None, False)),
        # The engine remaps users.
        (0o700, 100_000, "", (None, False)),
    ],
)
def test_who_may_read_and_execute_a_script_is_its_users_business(
    engine: FakeEngine, client: EngineClient, mode: int, owner: int, user: str, expected: Any
) -> None:
    files = {"/etc/passwd": (PASSWD, 0o644, 0), "/bin/sh": (elf(loader=b""), 0o755, 0)}
    assert expected == judged(engine, client, {**files, "/run": (SCRIPT, mode, owner)}, user)


@pytest.mark.parametrize("content", [SCRIPT, b"#!/bin/nested\n"])
def test_an_interpreter_that_the_user_may_not_execute_is_not_the_engines_business(
    engine: FakeEngine, client: EngineClient, content: bytes
) -> None:
    """The engine would answer that the start succeeded."""
    files = {"/bin/sh": (elf(loader=b""), 0o700, 0), "/bin/nested": (SCRIPT, 0o755, 0)}
    assert (EXEC, False) == judged(engine, client, {**files, "/run": (content, 0o755, 0)}, "1000")


V2, V3, EFFECTIVE = 0x02000000, 0x03000000, 1


@pytest.mark.parametrize(
    ("capabilities", "owner", "expected"),
    [
        (struct.pack("<5I", V2 | EFFECTIVE, 1 << 10, 0, 0, 0), 0, EXEC),
        # A byte that is not UTF-8.
        (struct.pack("<5I", V2 | EFFECTIVE, 1 << 7, 0, 0, 0), 0, EXEC),
        (struct.pack("<5I", V2 | EFFECTIVE, 0, 0, 1 << 7, 0), 0, EXEC),
        (struct.pack("<5I", V2, 1 << 10, 0, 0, 0), 0, None),
        (struct.pack("<5I", V2 | EFFECTIVE, 0, 1 << 10, 0, 1), 0, None),
        # The engine remaps users.
        (struct.pack("<5I", V2 | EFFECTIVE, 1 << 10, 0, 0, 0), 100_000, EXEC),
        # Of the user namespace of one root.
        (struct.pack("<6I", V3 | EFFECTIVE, 1 << 10, 0, 0, 0, 100_000), 0, None),
        (b"x", 0, None),
    ],
    ids=str,
)
def test_a_program_with_effective_file_capabilities_cannot_be_run_and_the_engine_does_not_say_so(
    engine: FakeEngine, client: EngineClient, capabilities: bytes, owner: int, expected: type[StartFailedError] | None
) -> None:
    program = (elf(loader=b""), 0o755, owner, capabilities)
    assert (expected, False) == judged(engine, client, {"/run": program})
    script = (b"#!/run2\n", 0o755, 0)
    assert (expected, False) == judged(engine, client, {"/run": script, "/run2": program})
    # Of a script, the kernel takes those of its interpreter.
    script = (b"#!/run2\n", 0o755, 0, capabilities)
    assert (None, False) == judged(engine, client, {"/run": script, "/run2": (elf(loader=b""), 0o755, 0)})


MADE_HERE = {**LABELS, "botmaker.create-id": "1"}
PODMANS = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER"]


@pytest.mark.parametrize(
    ("host", "labels", "has_none"),
    [
        (NO_CAPABILITIES, LABELS, True),
        ({"CapDrop": PODMANS, "CapAdd": []}, MADE_HERE, True),
        ({"CapDrop": PODMANS}, LABELS, False),
        ({"CapDrop": None}, MADE_HERE, False),
        ({**NO_CAPABILITIES, "CapAdd": ["CAP_DAC_OVERRIDE"]}, LABELS, False),
        ({**NO_CAPABILITIES, "Privileged": True}, LABELS, False),
        ({}, None, False),
    ],
)
def test_what_a_container_with_capabilities_may_do_is_a_doubt(
    engine: FakeEngine, client: EngineClient, host: dict[str, Any], labels: dict[str, str] | None, has_none: bool
) -> None:
    capable = struct.pack("<5I", V2 | EFFECTIVE, 1 << 10, 0, 0, 0)
    program = elf(loader=b"")
    files = {
        "/own": (program, 0o700, 1234),
        "/unreadable": (SCRIPT, 0o711, 1234),
        "/bin/sh": (program, 0o755, 0),
        "/closed": (b"", 1 << 31 | 0o700, 1234),
        "/closed/run": (program, 0o755, 0),
        "/capable": (program, 0o755, 0, capable),
    }
    for command in ("/own", "/unreadable", "/closed/run", "/capable"):
        error, _ = judged(engine, client, files, "0", command, HostConfig=host, labels=labels)
        assert error is (EXEC if has_none else None), command


@pytest.mark.parametrize(("scripts", "expected"), [(5, None), (6, EXEC)])
def test_as_many_interpreters_are_followed_as_the_kernel_follows(
    engine: FakeEngine, client: EngineClient, scripts: int, expected: type[StartFailedError] | None
) -> None:
    chain = {f"/{number}": (f"#!/{number + 1}\n".encode(), 0o755, 0) for number in range(1, scripts)}
    files = {"/run": (b"#!/1\n", 0o755, 0), **chain, f"/{scripts}": (elf(loader=b""), 0o755, 0)}
    assert (expected, False) == judged(engine, client, files)


def test_a_program_need_not_be_readable(engine: FakeEngine, client: EngineClient) -> None:
    assert (None, False) == judged(engine, client, {"/run": (elf(loader=b""), 0o711, 0)}, "1000")


def test_a_file_that_is_gone_or_no_archive_is_a_doubt(engine: FakeEngine, client: EngineClient) -> None:
    document = inspected()
    reader = Reader(client, document, ContainerFiles(client, document, Deadline(5)), Deadline(5))
    assert why_not_run(reader, File("/run", is_program=True)) is None
    engine.on("GET", "/containers/*/archive", Json({}))
    assert why_not_run(reader, File("/run", is_program=True)) is None
