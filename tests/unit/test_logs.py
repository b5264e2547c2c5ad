"""The log as it is written."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from container_manager.logs import LogFormat, configure_logging


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Undo what configuring did."""
    root = logging.getLogger()
    handlers, level, structure = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:], root.level = handlers, level
    structlog.configure(**structure)


def log_each_way() -> None:
    """A structured line, one of a library, and an exception."""
    structlog.get_logger("ours").info("structured", bot_id="b1")
    logging.getLogger("library").warning("plain %s", "text")
    try:
        int("the inside")
    except ValueError:
        structlog.get_logger("ours").exception("a bug")


def test_json_is_one_object_a_line_with_exceptions_inside(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json", "info")
    log_each_way()
    structured, plain, bug = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (structured["event"], structured["bot_id"], structured["level"]) == ("structured", "b1", "info")
    assert (plain["event"], plain["logger"]) == ("plain text", "library")
    assert "ValueError: invalid literal" in bug["exception"]


def test_text_shows_the_same_to_people_without_colours_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("text", "info")
    log_each_way()
    text = capsys.readouterr().err
    for part in ("structured", "bot_id=b1", "plain text", "ValueError: invalid literal"):
        assert part in text
    assert "\x1b" not in text


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_the_level_is_heeded(capsys: pytest.CaptureFixture[str], log_format: LogFormat) -> None:
    configure_logging(log_format, "error")
    log_each_way()
    text = capsys.readouterr().err
    assert "structured" not in text
    assert "plain text" not in text
    assert "a bug" in text
