"""What a document's command may be, to be executed: nothing that could change the machine that the tests run on.

The documents are written for machines of their readers' own, the tests run as root, and the engine may be one that
others use. So a block that is not in ``listing.py`` is executed only if it runs the programs below, and names no place
outside of the sandbox; any other is refused before it begins.
"""

from __future__ import annotations

import ast
import re

from tests.docs.documents import TOP

# The sandbox contains links to these.
_NOT_IN_THE_CHECKOUT = (
    rf"(?!.*(?:^|\s)\"?(?:\./)*(?:\.\.|{'|'.join(re.escape(each.name) for each in TOP.iterdir())})(?:/|\s|\"|$))"
)
# The permitted arguments, where they matter.
PROGRAMS = {
    "botctl": r"(?!.*--all\b)",
    "buf": r"curl\b",
    "cat": "",
    "container-manager": r"(?:doctor|health|serve|--version)\b",
    "curl": "",
    "docker": r"(?:ps|logs|inspect)\b",
    "echo": "",
    "export": "",
    "grep": "",
    "head": "",
    "install": _NOT_IN_THE_CHECKOUT,
    "ls": "",
    "mv": _NOT_IN_THE_CHECKOUT,
    "openssl": r"rand\b",
    "printf": "",
    "sleep": "",
    "uvicorn": "",
}
PREFIXES = ("sudo", "until_shown", "beside")
# Files that commands may read but not change.
_HARMLESS = ("/dev/stdin", "/dev/null", "/proc/sys/kernel/random/uuid", "/tmp/www")
_COMMAND = re.compile(
    r"(?:^|[|;&(]|\bdo |\bthen )[ \t]*(?:\w+=(?:\"[^\"]*\"|[^\s;(]*)[ \t]+)*([^\s|;&()]+)(?=([^\n|;&]*))", re.MULTILINE
)
_REDIRECTION = re.compile(r"(?<!\d)\d?>+(?!&)\s*(?!/dev/null)\S+")
_ASSIGNMENT = re.compile(r"\w+=")
_ABSOLUTE = re.compile(r"(?<![\w.}/~$\"])/(?!/)[\w.-][\w./-]*")
# What Python blocks may import.
_MODULES = {
    "asyncio",
    "botmaker",
    "container_manager",
    "container_manager_client",
    "google",
    "grpc",
    "grpclib",
    "pathlib",
}


def python_objections(source: str) -> list[str]:
    """The imports of a Python block that are not permitted."""
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = [alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in imports if isinstance(node, ast.ImportFrom)]
    return [f"{name} is no module for it" for name in names if name.partition(".")[0] not in _MODULES]


def objections(script: str, own_directory: str) -> list[str]:
    """The parts of a script that must not run on this machine; empty if it may run."""
    plain = re.sub(r"\\\n", " ", script)
    plain = re.sub(r"(?:^|(?<=\s))#.*", "", plain, flags=re.MULTILINE)
    quoteless = re.sub(r"'[^']*'", "''", plain)
    quoteless = re.sub(r"\d?>&\d", "", quoteless)
    found = []
    for program, arguments in _COMMAND.findall(quoteless):
        name, rest = program, arguments
        while name in PREFIXES:
            name, _, rest = rest.strip().partition(" ")
        if name.startswith("'") or _ASSIGNMENT.match(name) or name in {"", "''"}:
            continue
        allowed = PROGRAMS.get(name.strip('"'))
        if allowed is None:
            found.append(f"{name} is no program for it")
        elif not re.match(allowed, rest.strip()):
            found.append(f"{name} {rest.strip()} is not for it")
    found += [f"{each} writes a file" for each in _REDIRECTION.findall(quoteless)]
    paths = _ABSOLUTE.findall(re.sub(r"https?://\S*", "", quoteless))
    return found + [f"{path} is another's place" for path in paths if not path.startswith((own_directory, *_HARMLESS))]
