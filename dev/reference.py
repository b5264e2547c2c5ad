"""The page docs/reference.md, made from the comments of proto/: `python3 -m dev.reference` prints it.

buf reads the contract; the codes and meanings of errors are those of `container_manager.errors`.
"""

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2 as pb

from container_manager import errors

CHECKOUT = Path(__file__).resolve().parent.parent
REFERENCE = CHECKOUT / "docs" / "reference.md"

_BUF = CHECKOUT / ".venv" / "bin" / "buf"
_PACKAGE = "botmaker.container.v1"
_IDEMPOTENCY = {
    pb.MethodOptions.IDEMPOTENCY_UNKNOWN: "not to be retried",
    pb.MethodOptions.NO_SIDE_EFFECTS: "`NO_SIDE_EFFECTS`",
    pb.MethodOptions.IDEMPOTENT: "`IDEMPOTENT`",
}
# Constants, fields (also as Message.field), labels, and the one pattern.
_CODE = re.compile(
    r"(?<![\w`\"])((?:[A-Z]+_)+[A-Z]+|UNAVAILABLE|UNAUTHENTICATED|(?:[A-Z]\w+\.)?[a-z]+(?:_[a-z]+)+|[A-Z]\w+\.[a-z]+"
    r"|google\.rpc\.\w+|botmaker\.managed=true|\[A-Za-z_\]\[A-Za-z0-9_\]\*)(?![\w`])"
)
_WELL_KNOWN = "https://protobuf.dev/reference/protobuf/google.protobuf/#"
_HEAD = f"""# The contract

The services of the package `{_PACKAGE}`. `make proto` generates this page from the comments in
[`proto/`](../proto/botmaker/container/v1), and `make check` compares it. To change it, edit the comments.
"""


@dataclass(frozen=True)
class Commented:
    """One proto file, with the comment of each of its elements by its name, such as `Message.field`."""

    file: pb.FileDescriptorProto
    comments: dict[str, str] = field(default_factory=dict)

    def of(self, *names: str) -> str:
        """The comment of an element, as Markdown; without a name, that of the file."""
        return _markdown(self.comments.get(".".join(names), ""))

    def line(self, *names: str) -> str:
        """The same in one line, for a table."""
        return " ".join(self.of(*names).split())


def contract() -> list[Commented]:
    """The files of our package. Raises CalledProcessError when buf cannot read them; it says why itself."""
    command = [str(_BUF), "build", "--as-file-descriptor-set", "-o", "-"]
    image = subprocess.run(command, cwd=CHECKOUT, stdout=subprocess.PIPE, check=True).stdout
    files = [file for file in pb.FileDescriptorSet.FromString(image).file if file.package == _PACKAGE]
    return [Commented(file, dict(_comments(file))) for file in files]


def reference() -> str:
    """The whole page."""
    files = contract()
    parts = [_HEAD]
    for each in files:
        parts += _services(each)
    parts += ["## Errors\n", *_errors()]
    for title, kinds in (("Messages", _messages), ("Enums", _enums)):
        parts += [f"## {title}\n", *(part for each in files for part in kinds(each))]
    return "\n".join(parts)


def _comments(file: pb.FileDescriptorProto) -> Iterator[tuple[str, str]]:
    for location in file.source_code_info.location:
        if not location.leading_comments:
            continue
        element: Any = file
        names = []
        # A path alternates between the number of a repeated field and an index in it.
        for number, index in zip(location.path[::2], location.path[1::2], strict=False):
            element = getattr(element, element.DESCRIPTOR.fields_by_number[number].name)[index]
            names.append(element.name)
        # The comment above `syntax` has no name: it is that of the file.
        yield ".".join(names), location.leading_comments


def _services(each: Commented) -> Iterator[str]:
    for service in each.file.service:
        yield f"## {service.name}\n"
        yield f"{each.of()}\n"
        yield f"{each.of(service.name)}\n"
        yield "| RPC | kind | idempotency | own errors |\n|---|---|---|---|"
        said = {method.name: each.comments[f"{service.name}.{method.name}"] for method in service.method}
        for method in service.method:
            kind = "server streaming" if method.server_streaming else "unary"
            own = " ".join(f"`{reason}`" for reason in own_reasons(method.name, said)) or "none"
            idempotency = _IDEMPOTENCY[method.options.idempotency_level]
            yield f"| [{method.name}](#{method.name.lower()}) | {kind} | {idempotency} | {own} |"
        yield ""
        for method in service.method:
            stream = "stream " if method.server_streaming else ""
            yield f"### {method.name}\n"
            yield f"{_link(method.input_type)} → {stream}{_link(method.output_type)}\n"
            yield f"{each.of(service.name, method.name)}\n"


def own_reasons(method: str, comments: dict[str, str]) -> list[str]:
    """The reasons that an RPC's comment names, in their order; with those of the RPCs that it refers to."""
    text = comments[method]
    found = []
    referred = re.search(r"Errors as for ([\w ]+)\.", text)
    for other in re.findall(r"[A-Z]\w+", referred[1]) if referred else ():
        found += own_reasons(other, comments)
    found += [word for word in re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", text) if word in reasons()]
    return list(dict.fromkeys(found))


# Others have the same reasons, and are what callers should read of.
_WITH_ANOTHERS_REASON = (errors.InvalidArgumentError, errors.StateTooLargeError)


def reasons() -> dict[str, type[errors.ContainerManagerError]]:
    """Every reason that an error can have, and what the service raises for it."""
    classes = [
        found
        for _, found in inspect.getmembers(errors, inspect.isclass)
        if issubclass(found, errors.ContainerManagerError) and found not in _WITH_ANOTHERS_REASON
    ]
    return {found.reason: found for found in sorted(classes, key=lambda found: (found.code, found.reason))}


def _errors() -> Iterator[str]:
    yield (
        f"Each error carries a `google.rpc.ErrorInfo` with domain `{errors.ERROR_DOMAIN}` and one of these reasons.\n"
        "An error with `INVALID_ARGUMENT` also carries a `google.rpc.BadRequest` with the invalid fields.\n"
        "[Operations](operations.md#errors-and-what-to-do) describes what to do about each.\n"
    )
    yield "| reason | code | |\n|---|---|---|"
    for reason, found in reasons().items():
        unexpected = found is errors.ContainerManagerError
        meaning = "An unexpected error in the service." if unexpected else inspect.getdoc(found) or ""
        yield f"| `{reason}` | `{found.code}` | {' '.join(meaning.replace('``', '`').split())} |"
    yield ""


def _messages(each: Commented) -> Iterator[str]:
    for message in each.file.message_type:
        yield f"### {message.name}\n"
        yield f"{each.of(message.name)}\n"
        if message.field:
            yield "| | field | type | |\n|---|---|---|---|"
            for member in message.field:
                comment = each.line(message.name, member.name)
                yield f"| {member.number} | `{member.name}` | {_type(message, member)} | {comment} |"
            yield ""
        for enum in message.enum_type:
            yield from _enum(each, enum, message.name, enum.name)


def _enums(each: Commented) -> Iterator[str]:
    for enum in each.file.enum_type:
        yield from _enum(each, enum, enum.name)


def _enum(each: Commented, enum: pb.EnumDescriptorProto, *names: str) -> Iterator[str]:
    yield f"### {'.'.join(names)}\n"
    yield f"{each.of(*names)}\n"
    yield "| | value | |\n|---|---|---|"
    for value in enum.value:
        yield f"| {value.number} | `{value.name}` | {each.line(*names, value.name)} |"
    yield ""


def _type(message: pb.DescriptorProto, member: pb.FieldDescriptorProto) -> str:
    for entry in message.nested_type:
        if entry.options.map_entry and member.type_name == f".{_PACKAGE}.{message.name}.{entry.name}":
            key, value = entry.field
            return f"map of `{_scalar(key)}` to `{_scalar(value)}`"
    name = _link(member.type_name) if member.type_name else f"`{_scalar(member)}`"
    if member.label == pb.FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {name}"
    if member.proto3_optional:
        return f"optional {name}"
    if member.HasField("oneof_index"):
        return f"{name}, one of `{message.oneof_decl[member.oneof_index].name}`"
    return name


def _scalar(member: pb.FieldDescriptorProto) -> str:
    return pb.FieldDescriptorProto.Type.Name(member.type).removeprefix("TYPE_").lower()


def _link(type_name: str) -> str:
    name = type_name.removeprefix(".google.protobuf.")
    if name != type_name:
        return f"[`google.protobuf.{name}`]({_WELL_KNOWN}{name.lower()})"
    name = type_name.removeprefix(f".{_PACKAGE}.")
    return f"[`{name}`](#{name.replace('.', '').lower()})"


def _markdown(comment: str) -> str:
    """A comment with its code words as code; its paragraphs stay."""
    paragraphs = re.split(r"\n\s*\n", "\n".join(line.strip() for line in comment.strip().splitlines()))
    return "\n\n".join(_CODE.sub(r"`\1`", paragraph).replace("|", "\\|") for paragraph in paragraphs)


if __name__ == "__main__":
    sys.stdout.write(reference())
