"""Conformance 9: a program that cannot be run has its reason at the start, whatever is wrong with it."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import docker
import pytest

from container_manager.backends.docker import emulated_programs
from container_manager.backends.docker.docker_service import DockerService
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig
from container_manager.errors import CommandNotExecutableError, CommandNotFoundError, StartFailedError
from container_manager.model import ContainerConfig, ContainerState, ContainerStatus, ExitReason
from dev import docker_command
from tests.support.bots import Bots
from tests.support.waiting import wait_until

STRANGER = 1234
CAPABLE = "capable"
"""The program with cap_net_bind_service in its permitted and effective set."""
WAIT = b"#!/bin/sh\necho ready\nexec sleep 1000\n"


def elf(machine: int = 62, loader: bytes = b"", kind: int = 2) -> bytes:
    """A 64-bit program without code."""
    begin = 64 + 56
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", kind, machine, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    entry = struct.pack("<IIQQQQQQ", 3 if loader else 4, 4, begin, 0, 0, len(loader) + 1, len(loader) + 1, 1)
    return header + entry + loader + b"\0" * 100


def tar(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.mode, member.size = 0o755, len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


# Name, mode, owner, content, and the error of a start; None: it runs.
PROGRAMS: list[tuple[str, int, int, bytes, type[StartFailedError] | None]] = [
    ("interpreter-missing", 0o755, 0, b"#!/no/such/interpreter\n", CommandNotFoundError),
    ("crlf", 0o755, 0, b"#!/bin/sh\r\nsleep 1000\r\n", CommandNotFoundError),
    ("crlf-option", 0o755, 0, b"#!/bin/sh -e\r\nsleep 1000\r\n", CommandNotExecutableError),
    ("env-crlf", 0o755, 0, b"#! /usr/bin/env\tsh\r\nsleep 1000\r\n", CommandNotFoundError),
    ("env", 0o755, 0, b"#!/usr/bin/env sh\necho ready\nexec sleep 1000\n", None),
    ("interpreter-plain", 0o755, 0, b"#!/opt/plain\n", CommandNotExecutableError),
    ("interpreter-directory", 0o755, 0, b"#!/etc\n", CommandNotExecutableError),
    ("interpreter-broken", 0o755, 0, b"#!/opt/interpreter-missing\n", CommandNotFoundError),
    ("interpreter-itself", 0o755, 0, b"#!/opt/interpreter-itself\n", CommandNotExecutableError),
    ("interpreter-latin-1", 0o755, 0, b"#!/bin/sh\xa0\n", CommandNotFoundError),
    ("interpreter-none", 0o755, 0, b"#!\necho\n", CommandNotExecutableError),
    ("loader-missing", 0o755, 0, elf(loader=b"/lib64/ld-nothing.so.2"), CommandNotFoundError),
    ("loader-latin-1", 0o755, 0, elf(loader=b"/opt/\xe9.so"), CommandNotFoundError),
    ("machine", 0o755, 0, elf(machine=183), CommandNotExecutableError),
    ("object", 0o755, 0, elf(kind=1), CommandNotExecutableError),
    ("cut", 0o755, 0, elf()[:30], CommandNotExecutableError),
    ("empty", 0o755, 0, b"", CommandNotExecutableError),
    ("data", 0o755, 0, b"\x90\0\x03\0\0\0" + b"\0" * 100, CommandNotExecutableError),
    (CAPABLE, 0o755, 0, elf(), CommandNotExecutableError),
    ("interpreter-capable", 0o755, 0, f"#!/opt/{CAPABLE}\n".encode(), CommandNotExecutableError),
    ("plain", 0o644, 0, WAIT, CommandNotExecutableError),
    ("owner-only", 0o700, STRANGER, WAIT, CommandNotExecutableError),
    ("closed/tool", 0o755, 0, WAIT, CommandNotExecutableError),
    ("interpreter-closed", 0o755, 0, b"#!/opt/closed/tool\n", CommandNotExecutableError),
    ("unreadable", 0o711, STRANGER, WAIT, CommandNotExecutableError),
    ("script", 0o755, 0, WAIT, None),
    ("chain-2", 0o755, 0, b"#!/opt/script\n", None),
    ("chain-3", 0o755, 0, b"#!/opt/chain-2\n", None),
    ("chain-4", 0o755, 0, b"#!/opt/chain-3\n", None),
    ("chain-5", 0o755, 0, b"#!/opt/chain-4\n", None),
    ("chain-6", 0o755, 0, b"#!/opt/chain-5\n", CommandNotExecutableError),
    ("without-first-line", 0o755, 0, b"exec sleep 1000\n", None),
    ("own", 0o700, 0, WAIT, None),
    ("program-of-its-group", 0o750, STRANGER, WAIT, None),
]


@pytest.fixture(scope="module")
def image(engine: docker.DockerClient, test_image: str) -> Iterator[str]:
    """The test image with these programs in /opt, and the two that a start can use."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, mode, owner, content, _ in PROGRAMS:
            member = tarfile.TarInfo(f"opt/{name}")
            member.mode, member.uid, member.size = mode, owner, len(content)
            if name == CAPABLE:
                capabilities = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
                member.pax_headers = {"SCHILY.xattr.security.capability": capabilities.decode()}
            archive.addfile(member, io.BytesIO(content))
        closed = tarfile.TarInfo("opt/closed")
        closed.type, closed.mode, closed.uid = tarfile.DIRTYPE, 0o700, STRANGER
        archive.addfile(closed)
        for name, target in {"opt/tools": "/home/node/.openclaw/bin", "usr/bin/env": "/bin/busybox"}.items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
    container = engine.api.create_container(test_image, ["none"])
    engine.api.put_archive(container, "/", packed.getvalue())
    tag = f"botmaker-test/programs:{uuid.uuid4().hex[:12]}"
    engine.api.commit(container, *tag.split(":"))
    engine.api.remove_container(container)
    yield tag
    engine.images.remove(tag, force=True)


@pytest.fixture
def state_root(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def new_service(service_config: BackendConfig, image: str, state_root: Path) -> Iterator[Callable[[], DockerService]]:
    """Makes a service that remembers nothing."""
    root = RootDirectory(state_root, state_root)
    with ExitStack() as stack:
        yield lambda: stack.enter_context(
            closing(DockerService(replace(service_config, default_image=image, state_root=root)))
        )


@pytest.fixture
def service(new_service: Callable[[], DockerService]) -> DockerService:
    return new_service()


def started(service: DockerService, bot_id: str) -> type[StartFailedError] | None:
    """The error of a start; ``None``: the program runs, under its init."""
    try:
        service.start_container(bot_id)
    except StartFailedError as exc:
        return type(exc)
    return None


def status(service: DockerService, bot_id: str) -> ContainerStatus:
    found = service.get_container_status(bot_id)
    assert found is not None
    return found


def end(service: DockerService, bot_id: str) -> tuple[int | None, ExitReason | None]:
    found = status(service, bot_id)
    return found.exit_code, found.exit_reason


@pytest.mark.parametrize(("name", "error"), [(name, error) for name, _, _, _, error in PROGRAMS])
def test_conformance_09_a_program_that_cannot_be_run_has_its_reason_at_the_start(
    service: DockerService, bots: Bots, name: str, error: type[StartFailedError] | None
) -> None:
    bot_id = bots.new()
    service.create_container(bot_id, ContainerConfig(command=(f"/opt/{name}",)))
    assert error is started(service, bot_id)
    found = status(service, bot_id)
    if error is None:
        assert ContainerState.RUNNING is found.state
        assert bots.inspect(bot_id)["HostConfig"]["Init"] is True
    else:
        assert (ContainerState.CREATED, 0) == (found.state, found.restart_count)


def test_a_service_that_was_restarted_refuses_the_first_start_too(
    service: DockerService, new_service: Callable[[], DockerService], bots: Bots
) -> None:
    bot_id = bots.new()
    service.create_container(bot_id, ContainerConfig(command=("/opt/crlf",)))
    assert CommandNotFoundError is started(new_service(), bot_id)


def test_a_program_that_was_mended_before_the_first_start_is_started(service: DockerService, bots: Bots) -> None:
    broken, mended = bots.new(), bots.new()
    for bot_id in (broken, mended):
        service.create_container(bot_id, ContainerConfig(command=("/opt/crlf",)))
        assert CommandNotFoundError is started(service, bot_id)
    bots.engine.api.put_archive(f"botmaker-{mended}", "/opt", tar({"crlf": WAIT}))
    assert started(service, mended) is None
    assert ContainerState.RUNNING is status(service, mended).state
    assert CommandNotFoundError is started(service, broken)


def test_a_program_that_only_its_owner_may_run_is_rejected_by_the_engine_in_its_own_words(
    service: DockerService, bots: Bots
) -> None:
    bot_id = bots.new()
    service.create_container(bot_id, ContainerConfig(command=("/opt/owner-only",)))
    assert CommandNotExecutableError is started(service, bot_id)
    assert ExitReason.START_FAILED is status(service, bot_id).exit_reason
    assert "permission denied" in status(service, bot_id).error


TOOLS = ["/home/node/.openclaw/bin/tool", "/opt/tools/tool", "/home/node/../node/.openclaw/bin/tool"]


def put(state_root: Path, bot_id: str, content: bytes = WAIT) -> Path:
    """The bot's tool, in its state."""
    tool = state_root / bot_id / "bin" / "tool"
    tool.parent.mkdir(parents=True, exist_ok=True)
    for path in (tool.parent, tool.parent.parent):
        path.chmod(0o755)
    tool.write_bytes(content)
    tool.chmod(0o755)
    return tool


@pytest.mark.parametrize("command", TOOLS)
@pytest.mark.parametrize("first_has_it", [True, False])
def test_a_command_below_the_state_mount_is_looked_up_for_each_bot(
    service: DockerService, bots: Bots, state_root: Path, command: str, *, first_has_it: bool
) -> None:
    """It was remembered by image: then a later bot had no init, or its start succeeded and it crashed for ever."""
    config = ContainerConfig(command=(command,))
    for has_it in (first_has_it, not first_has_it):
        bot_id = bots.new()
        if has_it:
            put(state_root, bot_id)
        service.create_container(bot_id, config)
        assert (None if has_it else CommandNotFoundError) is started(service, bot_id)
        assert bots.inspect(bot_id)["HostConfig"]["Init"] is True
        if has_it:
            # The kernel drops a signal that comes before the init process has a handler for it.
            bots.wait_for_log(bot_id, b"ready")
            began = time.monotonic()
            service.stop_container(bot_id, 30)
            assert time.monotonic() - began < 15
            assert status(service, bot_id).exit_code == 143


def test_another_state_mount_holds_the_state_and_its_programs(
    service_config: BackendConfig, image: str, bots: Bots, state_root: Path
) -> None:
    root = RootDirectory(state_root, state_root)
    config = replace(service_config, default_image=image, state_root=root, state_mount="/app/botdata")
    service, bot_id = DockerService(config), bots.new()
    service.create_container(bot_id, ContainerConfig(command=("/app/botdata/bin/tool",)))
    assert CommandNotFoundError is started(service, bot_id)
    put(state_root, bot_id, b"#!/bin/sh\necho seen >/app/botdata/seen\nexec sleep 1000\n")
    (state_root / bot_id).chmod(0o777)
    assert started(service, bot_id) is None
    wait_until((state_root / bot_id / "seen").exists, "the program has written to its state")
    targets = {mount["Destination"] for mount in bots.inspect(bot_id)["Mounts"]}
    assert {"/run/secrets", "/app/botdata"} == targets
    service.close()


@pytest.mark.parametrize("command", TOOLS[:2])
@pytest.mark.parametrize("remembers", [True, False])
def test_a_command_below_the_state_mount_is_looked_up_at_each_start(
    service: DockerService,
    new_service: Callable[[], DockerService],
    bots: Bots,
    state_root: Path,
    command: str,
    *,
    remembers: bool,
) -> None:
    """Also by a service that was restarted since, which knew nothing of the bot and started it."""
    bot_id = bots.new()
    service.create_container(bot_id, ContainerConfig(command=(command,)))
    assert CommandNotFoundError is started(service, bot_id)
    tool = put(state_root, bot_id)
    assert started(service, bot_id) is None
    bots.wait_for_log(bot_id, b"ready")
    service.stop_container(bot_id, 30)
    assert status(service, bot_id).exit_code == 143
    tool.write_bytes(b"#!/bin/sh\r\n")
    later = service if remembers else new_service()
    assert CommandNotFoundError is started(later, bot_id)
    tool.unlink()
    later = service if remembers else new_service()
    with pytest.raises(CommandNotFoundError):
        later.restart_container(bot_id)


def test_a_script_whose_interpreter_may_be_an_applet_of_env_tells_its_first_exit(
    service: DockerService, bots: Bots, state_root: Path
) -> None:
    """No file says which applets busybox runs by name."""
    bot_id = bots.new()
    put(state_root, bot_id, b"#!/usr/bin/env no-such-interpreter\n")
    service.create_container(bot_id, ContainerConfig(command=(TOOLS[0],)))
    assert started(service, bot_id) is None
    wait_until(lambda: end(service, bot_id) == (127, ExitReason.ERROR), "the exit code of env")


@pytest.mark.parametrize(("change", "exit_code"), [(Path.unlink, 127), (lambda tool: tool.chmod(0o644), 126)])
def test_a_program_that_cannot_be_run_any_more_while_its_bot_runs_shows_its_exit_code(
    service: DockerService, bots: Bots, state_root: Path, change: Callable[[Path], None], exit_code: int
) -> None:
    bot_id = bots.new()
    tool = put(state_root, bot_id, b"#!/bin/sh\nsleep 1\nexit 3\n")
    service.create_container(bot_id, ContainerConfig(command=(TOOLS[0],)))
    assert started(service, bot_id) is None
    change(tool)
    wait_until(lambda: end(service, bot_id) == (exit_code, ExitReason.ERROR), "the exit code of its init")
    assert ExitReason.ERROR is status(service, bot_id).exit_reason


@pytest.fixture
def foreign_image(service_config: BackendConfig) -> Iterator[str]:
    """An image for another machine, with a program for it."""
    tag, host = f"botmaker-test/foreign:{uuid.uuid4().hex[:12]}", service_config.docker_host
    layer = tar({"opt/foreign": elf(machine=183)})
    layers = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]}
    config = {"architecture": "arm64", "os": "linux", "config": {}, "rootfs": layers}
    manifest = [{"Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]
    files = {"layer.tar": layer, "config.json": json.dumps(config).encode()}
    docker_command.run(host, "load", stdin=tar({**files, "manifest.json": json.dumps(manifest).encode()}))
    yield tag
    docker_command.run(host, "image", "rm", "--force", tag)


def test_an_image_for_another_machine_is_refused_on_a_host_without_an_emulator(
    service_config: BackendConfig, foreign_image: str, bots: Bots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel does not run its program, and its start was OK."""
    # Whether this machine shows its formats, and has one for that machine, is its own business.
    monkeypatch.setattr(emulated_programs, "_FORMATS", tmp_path)
    (tmp_path / "status").write_text("enabled\n")
    service, bot_id = DockerService(replace(service_config, default_image=foreign_image)), bots.new()
    service.create_container(bot_id, ContainerConfig(command=("/opt/foreign",)))
    with pytest.raises(CommandNotExecutableError, match=r"/opt/foreign is a program for another machine \(AArch64\)"):
        service.start_container(bot_id)
    assert (ContainerState.CREATED, 0) == (status(service, bot_id).state, status(service, bot_id).restart_count)
    service.close()
