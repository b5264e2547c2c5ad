"""The exception tree: equals the drawing in its module, and has every reason of the contract."""

from __future__ import annotations

import inspect
import re

import pytest

from container_manager import errors
from container_manager.errors import ContainerManagerError, FieldViolation, InvalidConfigError

CONTRACT = {
    ("INVALID_ARGUMENT", "INVALID_BOT_ID"),
    ("INVALID_ARGUMENT", "INVALID_CONFIG"),
    ("INVALID_ARGUMENT", "INVALID_IMAGE_REFERENCE"),
    ("NOT_FOUND", "CONTAINER_NOT_FOUND"),
    ("ALREADY_EXISTS", "CONTAINER_ALREADY_EXISTS"),
    ("FAILED_PRECONDITION", "NAME_IN_USE_UNMANAGED"),
    ("FAILED_PRECONDITION", "CONTAINER_NAME_MISMATCH"),
    ("FAILED_PRECONDITION", "SECRETS_UNAVAILABLE"),
    ("FAILED_PRECONDITION", "STATE_UNAVAILABLE"),
    ("FAILED_PRECONDITION", "SECRETS_RELOAD_FAILED"),
    ("NOT_FOUND", "BACKUP_NOT_FOUND"),
    ("DATA_LOSS", "BACKUP_CORRUPT"),
    ("FAILED_PRECONDITION", "BACKUP_UNAVAILABLE"),
    ("FAILED_PRECONDITION", "UPGRADE_ROLLED_BACK"),
    ("FAILED_PRECONDITION", "ROLLBACK_FAILED"),
    ("PERMISSION_DENIED", "ACTION_NOT_ALLOWED"),
    ("FAILED_PRECONDITION", "IMAGE_NOT_FOUND"),
    ("FAILED_PRECONDITION", "IMAGE_PULL_DENIED"),
    ("FAILED_PRECONDITION", "IMAGE_PULL_FAILED"),
    ("UNAVAILABLE", "IMAGE_REGISTRY_UNAVAILABLE"),
    ("FAILED_PRECONDITION", "CONFIG_NOT_REPRODUCIBLE"),
    ("PERMISSION_DENIED", "IMAGE_NOT_ALLOWED"),
    ("FAILED_PRECONDITION", "START_FAILED"),
    ("FAILED_PRECONDITION", "COMMAND_NOT_FOUND"),
    ("FAILED_PRECONDITION", "COMMAND_NOT_EXECUTABLE"),
    ("FAILED_PRECONDITION", "PORT_IN_USE"),
    ("FAILED_PRECONDITION", "INVALID_STATE"),
    ("ABORTED", "OPERATION_IN_PROGRESS"),
    ("CANCELLED", "OPERATION_CANCELLED"),
    ("UNAVAILABLE", "ENGINE_UNAVAILABLE"),
    ("FAILED_PRECONDITION", "ENGINE_ACCESS_DENIED"),
    ("DEADLINE_EXCEEDED", "ENGINE_TIMEOUT"),
    ("UNAVAILABLE", "NODE_UNAVAILABLE"),
    ("UNAVAILABLE", "SHUTTING_DOWN"),
    ("RESOURCE_EXHAUSTED", "CAPACITY_EXCEEDED"),
    ("UNAUTHENTICATED", "UNAUTHENTICATED"),
    ("PERMISSION_DENIED", "SERVICE_NOT_ALLOWED"),
    ("UNIMPLEMENTED", "NOT_SUPPORTED_BY_BACKEND"),
    ("INTERNAL", "INTERNAL_ERROR"),
}
CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, ContainerManagerError)]


def test_the_classes_have_exactly_the_codes_and_reasons_of_the_contract() -> None:
    assert CONTRACT == {(cls.code, cls.reason) for cls in CLASSES}


def _drawn() -> dict[str, tuple[str, str | None, str | None]]:
    """Each class with its parent, code and reason, as the module's docstring draws them."""
    found: dict[str, tuple[str, str | None, str | None]] = {}
    parents = {0: "ContainerManagerError"}
    for line in (errors.__doc__ or "").splitlines():
        match = re.fullmatch(r"    ([│ ]*)[├└]── (\w+)(.*)", line)
        if match:
            depth = len(match[1]) // 4 + 1
            words = match[3].split()
            parents[depth] = match[2]
            # A single word is a code in the column of codes, and a reason further right.
            code = words[0] if len(words) == 2 or (words and depth == 1) else None
            reason = words[-1] if len(words) == 2 or (words and depth == 2) else None
            found[match[2]] = (parents[depth - 1], code, reason)
    return found


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if cls is not ContainerManagerError])
def test_every_class_is_drawn_where_it_stands(cls: type[ContainerManagerError]) -> None:
    parent, code, reason = _drawn()[cls.__name__]
    assert cls.__bases__[0].__name__ == parent
    assert code in (None, cls.code)
    assert reason in (None, cls.reason)
    assert code is not None or cls.code == cls.__bases__[0].code


def test_nothing_is_drawn_that_is_not_there() -> None:
    assert {cls.__name__ for cls in CLASSES} == {"ContainerManagerError", *_drawn()}


@pytest.mark.parametrize("cls", CLASSES)
def test_every_class_says_what_it_means_and_has_a_code_and_reason(cls: type[ContainerManagerError]) -> None:
    assert cls.__doc__
    assert re.fullmatch("[A-Z]+(_[A-Z]+)*", cls.code)
    assert re.fullmatch("[A-Z]+(_[A-Z]+)*", cls.reason)


def test_a_message_and_its_metadata_are_kept() -> None:
    error = ContainerManagerError("what to do", bot_id="b", container_id="c")
    assert ("what to do", {"bot_id": "b", "container_id": "c"}) == (str(error), error.metadata)


def test_a_message_of_violations_names_each_field() -> None:
    error = InvalidConfigError(FieldViolation("a", "is bad"), FieldViolation("b[0]", "is worse"))
    assert "a: is bad; b[0]: is worse" == str(error)
