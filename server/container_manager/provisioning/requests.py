"""Rules for the requests of BotProvisioner. No error repeats a content, nor a secret's name that is invalid."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from container_manager.errors import FieldViolation, InvalidConfigError
from container_manager.validation import MAX_VIOLATIONS

MAX_FILES = 64
MAX_CALL_BYTES = 3 * 1024 * 1024
MAX_SECRET_BYTES = 64 * 1024
MAX_FILE_BYTES = 1024 * 1024
MAX_PATH_BYTES = 1024
MAX_PATH_PARTS = 32
MAX_PART_BYTES = 255  # NAME_MAX of Linux' file systems

_SECRET_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def is_secret_name(name: str) -> bool:
    """Whether a secret file may have this name."""
    return _SECRET_NAME.fullmatch(name) is not None


def check_secrets(secrets: Mapping[str, bytes]) -> None:
    """Raise :class:`InvalidConfigError` unless all of these secret files may be written."""
    _check("secrets", secrets, MAX_SECRET_BYTES, _secret_names(secrets))


def check_secret_names(names: Sequence[str]) -> None:
    """Raise :class:`InvalidConfigError` unless each is the name of a secret file."""
    _raise([*_count("names", len(names)), *(_secret_names(names, "names") if len(names) <= MAX_FILES else ())])


def check_files(files: Mapping[str, bytes]) -> None:
    """Raise :class:`InvalidConfigError` unless all of these files may be written below a state directory."""
    _check("files", files, MAX_FILE_BYTES, _paths(files))


def path_parts(path: str) -> list[str]:
    """The parts of a path that :func:`check_files` accepts: its directories, and last the name of the file."""
    return path.split("/")


def _check(field: str, contents: Mapping[str, bytes], most_bytes: int, names: Iterator[FieldViolation]) -> None:
    # Counted before anything else, so that a request of a million names costs nothing.
    _raise([*_count(field, len(contents))])
    violations = [*names]
    if not violations:
        violations += (
            FieldViolation(f"{field}[{name[:128]!a}]", f"must be at most {most_bytes} bytes, not {len(content)}")
            for name, content in contents.items()
            if len(content) > most_bytes
        )
    total = sum(map(len, contents.values()))
    if total > MAX_CALL_BYTES:
        violations.append(
            FieldViolation(field, f"must be at most {MAX_CALL_BYTES} bytes in all, not {total}; call it repeatedly")
        )
    _raise(violations)


def _raise(violations: list[FieldViolation]) -> None:
    if violations:
        raise InvalidConfigError(*violations[:MAX_VIOLATIONS])


def _count(field: str, count: int) -> Iterator[FieldViolation]:
    if count > MAX_FILES:
        yield FieldViolation(field, f"must have at most {MAX_FILES} entries, not {count}")


def _secret_names(names: Mapping[str, bytes] | Sequence[str], field: str = "secrets") -> Iterator[FieldViolation]:
    # A caller that mistakes a value for a name must not find the value in an error.
    if any(not is_secret_name(name) for name in names):
        yield FieldViolation(field, f"a name must match {_SECRET_NAME.pattern}")


def _paths(files: Mapping[str, bytes]) -> Iterator[FieldViolation]:
    for path in files:
        if problem := _path_problem(path):
            yield FieldViolation(f"files[{path[:64]!a}]", problem)
    for path in files:
        parts = path_parts(path)
        for count in range(1, min(len(parts), MAX_PATH_PARTS)):
            if (directory := "/".join(parts[:count])) in files:
                yield FieldViolation(f"files[{path[:64]!a}]", f"is below the file {directory[:64]!a}")


def _path_problem(path: str) -> str | None:
    parts = path_parts(path)
    if "\0" in path:
        return "must not contain NUL"
    if path.startswith("/"):
        return "must be relative to the state directory"
    if any(part in ("", ".", "..") for part in parts):
        return 'must have no empty part, and neither "." nor ".."'
    if len(parts) > MAX_PATH_PARTS:
        return f"must have at most {MAX_PATH_PARTS} parts, not {len(parts)}"
    if any(len(_encoded(part)) > MAX_PART_BYTES for part in parts) or len(_encoded(path)) > MAX_PATH_BYTES:
        return f"must have at most {MAX_PART_BYTES} bytes in each part and {MAX_PATH_BYTES} in all"
    return None


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
