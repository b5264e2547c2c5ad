"""Why a program cannot be run, by its first bytes, owner and capabilities, as execvp(3) and execve(2) judge them."""

from __future__ import annotations

import os
import posixpath
import re
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from container_manager.backends.docker.container_files import ContainerFiles, File, UnknownFileError
from container_manager.backends.docker.container_user import has_no_capabilities, uid_of, user_name
from container_manager.backends.docker.elf_header import ElfHeader
from container_manager.backends.docker.emulated_programs import is_emulated
from container_manager.deadline import Deadline
from container_manager.engine.archive import FileStart
from container_manager.engine.client import EngineClient
from container_manager.errors import CommandNotExecutableError, CommandNotFoundError, StartFailedError

# The PATH that the engine gives a container whose image has none (moby, oci.DefaultPathEnv).
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Each candidate costs calls to the engine.
_MAX_CANDIDATES = 64
_READ_BYTES = 4_096
# The kernel reads this much of a script's first line (BINPRM_BUF_SIZE), and follows so many interpreters.
_FIRST_LINE_BYTES = 256
_MAX_INTERPRETERS = 5
# They look up a name that is the only argument, without options and variables, in PATH.
_ENVS = ("/usr/bin/env", "/bin/env")
# Interpreters with an option that they certainly refuse if CR is at its end: elsewhere it may be part of a value.
_STRICT = re.compile(
    r"(?:/usr(?:/local)?)?/bin/(?:(?:sh|ash|dash|bash|ksh|zsh) -.*|python[\d.]* -[bBdEhiIOPqRsSuvVx]+|node --[\w-]+)\r"
)
_ELF_PROGRAMS = (2, 3)
_FIRST_REMAPPED_UID = 65_536
# vfs_cap_data of revision 2, with the flag that makes them effective: by words, what is permitted and inheritable.
_CAPABILITIES = struct.Struct("<IIxxxxIxxxx")
_EFFECTIVE = 0x02000001
# By the engine's name for its architecture: the ELF machines that its kernel may run. An engine of 32 bits may be on a
# kernel of 64.
_MACHINES = {"amd64": (62, 3), "arm64": (183, 40), "386": (3, 62), "arm": (40, 183)}
# Of Windows and .NET, and of Java. Hosts with an interpreter for them are common.
_OTHER_PROGRAMS = (b"MZ", b"\xca\xfe\xba\xbe")
_MACHINE_NAMES = {3: "x86", 40: "ARM", 62: "x86-64", 183: "AArch64"}


class Problem(NamedTuple):
    """Why a program cannot be run."""

    error: type[StartFailedError]
    why: str
    by_engine: bool = False
    """Without init, the engine rejects its start."""
    is_final: bool = True
    """It is a fault of the program, whatever this host can run."""
    is_passed_over: bool = False
    """The init looks for the program in the next directory of ``PATH``: after EACCES and ENOENT, says execvp(3)."""


class Reader:
    """Reads programs of the container with this inspect document."""

    def __init__(
        self, engine: EngineClient, inspected: dict[str, Any], files: ContainerFiles, deadline: Deadline
    ) -> None:
        self._engine = engine
        self._inspected = inspected
        self._id = inspected["Id"]
        self._image = inspected["Image"]
        self._deadline = deadline
        self.files = files
        self.user = user_name(inspected)
        self.has_no_capabilities = has_no_capabilities(inspected)
        self.search_path = search_path(inspected)

    def start_of(self, path: str) -> FileStart | None:
        return self._engine.read_start(self._id, path, _READ_BYTES, self._deadline)

    def uid(self) -> int | None:
        """The user's number; ``None``: unknown."""
        if not self.user.isdecimal():
            # If a mount has the users' names, what follows from them is not final.
            self.files.find("/etc/passwd")
        return uid_of(self._engine, self._inspected, self._deadline)

    def runs_machine(self, machine: int, *, emulated: bool | None) -> bool:
        """Whether the engine's machine certainly or possibly runs programs for ``machine``, a number of ELF.

        ``emulated``: by this host, if that is known.
        """
        engine = self._engine.version(self._deadline)
        architecture = engine.get("Arch")
        machines = _MACHINES.get(str(architecture))
        if machines is None or machine in machines:
            return True
        if emulated is False and self.is_on_this_host():
            return False
        # An image for another machine is a sign that the host emulates it.
        image = self._engine.inspect_image(self._image, self._deadline) or {}
        return image.get("Architecture") != architecture

    def is_on_this_host(self) -> bool:
        """Whether the engine has this host's kernel, and neither that of another host nor of a virtual machine."""
        # Hosts of a fleet have the same release.
        return self._engine.is_local and self._engine.version(self._deadline).get("KernelVersion") == os.uname().release


def search_path(inspected: dict[str, Any]) -> str:
    """``PATH`` in the container."""
    environment = dict(item.partition("=")[::2] for item in inspected["Config"].get("Env") or [])
    return str(environment.get("PATH", _DEFAULT_PATH))


def why_not_run_by_name(reader: Reader, name: str, called: str, *, by_env: bool = False) -> Problem | None:
    """Why the program of this name, looked up as execvp(3) does, cannot be run; ``None``: it can, or that is in doubt.

    ``called``: what the reason calls it. ``by_env``: env(1) runs it. Raises :class:`UnknownFileError`.
    """
    candidates = list(dict.fromkeys(_candidates(name, reader.search_path)))
    if len(candidates) > _MAX_CANDIDATES:
        raise UnknownFileError
    error: type[StartFailedError] = CommandNotFoundError
    problems: list[Problem] = []
    for candidate in candidates:
        found = reader.files.find(candidate)
        if found is None:
            continue
        if not found.is_program:
            error = CommandNotExecutableError
            continue
        problem = why_not_run(reader, found, by_env=by_env)
        if problem is None:
            return None
        problems.append(problem)
        if not problem.is_passed_over:
            break
    if not problems:
        what = "is not there" if error is CommandNotFoundError else "is no file that can be executed"
        return Problem(error, f"{called} {what}", by_engine=True)
    # Like the init, the engine goes on after a file that its user may not execute, but after nothing else.
    by_engine = all(problem.by_engine for problem in problems)
    return problems[0]._replace(by_engine=by_engine, is_final=all(problem.is_final for problem in problems))


def why_not_run(reader: Reader, file: File, depth: int = 0, *, by_env: bool = False) -> Problem | None:
    """Why an executable file cannot be run; ``None``: it can, or that is in doubt."""
    path = file.path
    start = reader.start_of(path)
    if start is None:
        return None
    is_script = start.content.startswith(b"#!")
    problem = _entry(reader, file) or _permission(reader, path, start, reads=is_script)
    emulated = is_emulated(path, start.content)
    if problem is None and emulated:
        return None
    if problem is not None or is_script:
        return problem or _script(reader, path, start.content, depth, by_env=by_env)
    if start.content.startswith(b"\x7fELF"):
        return _elf(reader, path, start.content, emulated=emulated) or _capabilities(reader, path, start)
    # docker-init hands any other file to a shell, as execvp(3) does, and text may be for the shell.
    is_text = start.content and b"\0" not in start.content.partition(b"\n")[0]
    is_others = start.content.startswith(_OTHER_PROGRAMS)
    if is_text or (is_others and not (emulated is False and reader.is_on_this_host())):
        return None
    what = "is neither a script nor a program of Linux" if start.content else "is empty"
    return Problem(CommandNotExecutableError, f"{path} {what}", is_final=False)


def _entry(reader: Reader, file: File) -> Problem | None:
    for folder in file.closed:
        start = reader.start_of(folder)
        problem = _permission(reader, folder, start, reads=False) if start is not None else None
        if problem is not None:
            return problem._replace(why=f"user {reader.user} may not enter {folder}")
    return None


def _permission(reader: Reader, path: str, start: FileStart, *, reads: bool) -> Problem | None:
    needed = 0o5 if reads else 0o1
    others = start.mode & 0o7
    if others & needed == needed and start.mode >> 6 & needed == needed:
        return None
    # With capabilities, it may enter, read and execute anything.
    uid = reader.uid() if reader.has_no_capabilities else None
    # Where users are remapped, the engine's archives have the host's numbers.
    if uid is None or start.uid >= _FIRST_REMAPPED_UID:
        return None
    owned = uid == start.uid
    # Which groups the user has is not looked up: if the group has the right, the user may have it.
    rights = start.mode >> 6 & 0o7 if owned else others | start.mode >> 3 & 0o7
    if rights & needed == needed:
        return None
    if not rights & 0o1:
        what = f"user {reader.user} may not execute {path}"
        return Problem(CommandNotExecutableError, what, by_engine=True, is_passed_over=True)
    return Problem(CommandNotExecutableError, f"user {reader.user} may not read {path}")


def _script(reader: Reader, path: str, content: bytes, depth: int, *, by_env: bool) -> Problem | None:
    line, newline, _ = content[2:_FIRST_LINE_BYTES].partition(b"\n")
    words = line.replace(b"\t", b" ").strip(b" ").decode("utf-8", "surrogateescape")
    name, _, argument = words.partition(" ")
    if not newline and len(content) >= _FIRST_LINE_BYTES:
        return None
    if not name:
        return Problem(CommandNotExecutableError, f"{path} names no interpreter in its first line")
    if depth >= _MAX_INTERPRETERS:
        return Problem(CommandNotExecutableError, f"{path} has too many interpreters of interpreters")
    found = reader.files.find(name)
    if found is None:
        what = f"the interpreter {name!r} of {path} is not there{_hint(name)}"
        return Problem(CommandNotFoundError, what, is_passed_over=True)
    if not found.is_program:
        what = f"the interpreter {name!r} of {path} cannot be executed"
        return Problem(CommandNotExecutableError, what, is_passed_over=True)
    problem = why_not_run(reader, found, depth + 1, by_env=by_env)
    argument = argument.lstrip(" ")
    if problem is None and _STRICT.fullmatch(f"{name} {argument}"):
        what = f"the interpreter {name!r} of {path} has no option {argument!r}{_hint(argument)}"
        problem = Problem(CommandNotExecutableError, what)
    if problem is None and name in _ENVS and not by_env:
        problem = _env(reader, path, found, argument)
    # The engine examines the script alone.
    return problem and problem._replace(by_engine=False)


def _env(reader: Reader, path: str, env: File, name: str) -> Problem | None:
    """Why env(1), with this argument and the script at ``path``, cannot run the program ``name``."""
    if not name or name.startswith("-") or "=" in name:
        return None
    # They may run an applet of their own that has no file.
    if env.path.endswith(("/busybox", "/toybox")) and not name.endswith("\r"):
        return None
    problem = why_not_run_by_name(reader, name, f"the interpreter {name!r} of {path}", by_env=True)
    if problem is None:
        return None
    return problem._replace(why=problem.why + _hint(name), is_passed_over=False)


def _hint(name: str) -> str:
    return "; its lines end with CR LF" if name.endswith("\r") else ""


def _elf(reader: Reader, path: str, content: bytes, *, emulated: bool | None) -> Problem | None:
    try:
        header = ElfHeader.of(content)
    except (struct.error, LookupError):
        header = None
    if header is None or header.kind not in _ELF_PROGRAMS:
        return Problem(CommandNotExecutableError, f"{path} is damaged, or no program")
    if not reader.runs_machine(header.machine, emulated=emulated):
        name = _MACHINE_NAMES.get(header.machine, f"number {header.machine}")
        what = f"{path} is a program for another machine ({name})"
        return Problem(CommandNotExecutableError, what, is_final=False)
    if header.loader and reader.files.find(header.loader) is None:
        what = f"the loader {header.loader!r} of {path} is not there"
        return Problem(CommandNotFoundError, what, is_passed_over=True)
    return None


def _capabilities(reader: Reader, path: str, start: FileStart) -> Problem | None:
    # Those of the later revision count in one user namespace alone.
    if not reader.has_no_capabilities or len(start.capabilities) != _CAPABILITIES.size:
        return None
    revision, *permitted = _CAPABILITIES.unpack(start.capabilities)
    # EPERM if an effective capability is not in the bounding set, which is empty for a bot (capabilities(7)).
    if revision != _EFFECTIVE or not any(permitted):
        return None
    return Problem(CommandNotExecutableError, f"{path} has file capabilities, and a bot has none")


def _candidates(name: str, path: str) -> Iterator[str]:
    if "/" in name:
        yield name
    else:
        for folder in path.split(":"):
            yield posixpath.join(folder, name)
