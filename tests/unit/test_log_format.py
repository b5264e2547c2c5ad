"""The format of the log."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from container_manager.deadline import Deadline
from container_manager.observability.call import Call, current_call
from container_manager.observability.log_format import LogFormat, configure_logging
from container_manager.scheduling.bot_operations import BotOperations


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Restore the log's configuration."""
    root = logging.getLogger()
    handlers, level, structure = root.handlers[:], root.level, structlog.get_config()
    hook = threading.excepthook
    yield
    threading.excepthook = hook
    root.handlers[:], root.level = handlers, level
    structlog.configure(**structure)


def log_each_way() -> None:
    """Log a structured line, a line of a library, and an exception."""
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


def test_whatever_is_logged_for_a_call_has_its_id_by_its_worker_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json", "info")

    async def call(request_id: str) -> None:
        current_call.set(Call(request_id, None, 0, 0.0))
        operations = BotOperations(1)
        await operations.read("key", lambda _deadline: log_each_way(), Deadline())
        log_each_way()
        structlog.get_logger("ours").info("its own", request_id="other")
        operations.close()

    async def calls() -> None:
        for request_id in ("r-1", "r-2"):
            await asyncio.create_task(call(request_id))
        logging.getLogger("library").info("of no call")

    asyncio.run(calls())
    ids = [json.loads(line).get("request_id") for line in capsys.readouterr().err.splitlines()]
    assert [*["r-1"] * 6, "other", *["r-2"] * 6, "other", None] == ids


def fail_in_thread(error: BaseException) -> None:
    def fail() -> None:
        raise error

    thread = threading.Thread(target=fail, name="leftovers")
    thread.start()
    thread.join()


def test_an_error_that_ends_a_thread_is_logged_as_any_other_and_an_exit_is_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging("json", "info")
    fail_in_thread(SystemExit())
    fail_in_thread(TypeError("the inside"))
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert ("unexpected error: the thread 'leftovers' has ended", "error") == (line["event"], line["level"])
    assert "TypeError: the inside" in line["exception"]


# Not st.text(), which leaves halves of surrogate pairs out.
unsafe_texts = st.lists(
    st.sampled_from("\n\r\x1b\x00\x85\u2028\u2029\u202e\t\x9b\ud800\udfff") | st.characters(), max_size=30
).map("".join)


@given(unsafe_texts, unsafe_texts, unsafe_texts)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_text_of_a_caller_or_the_engine_makes_a_line_of_its_own(
    capsys: pytest.CaptureFixture[str], log_format: LogFormat, event: str, value: str, inside: str
) -> None:
    """Not as an event, as an argument, as a value, or inside an exception, also one that ends a thread."""
    configure_logging(log_format, "info")
    capsys.readouterr()
    structlog.get_logger("ours").warning(event, command=value, several=[value, {"key": value}])
    logging.getLogger("library").warning("%s and %s", event, value)
    structlog.get_logger("ours").error("unexpected", text=value, exc_info=RuntimeError(inside))
    fail_in_thread(RuntimeError(inside))
    written = capsys.readouterr().err
    beginnings = [line for line in written.split("\n")[:-1] if not line.startswith("    ")]
    assert 4 == len(beginnings), written
    assert all(line.startswith("{" if log_format == "json" else "20") for line in beginnings)
    assert not {character for character in written if character < " " or "\x7f" <= character <= "\x9f"} - {"\n"}
    assert not set(written) & set("\u2028\u2029\u202e\ud800\udfff")
    assert "cannot be written" not in written
    if log_format == "json":
        assert all({"event", "level", "timestamp"} <= set(json.loads(line)) for line in beginnings)


def test_a_traceback_is_readable_and_cannot_forge_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("text", "info")
    error = RuntimeError("engine said\n2026-11-29T00:00:00Z [error    ] forged")
    structlog.get_logger("ours").error("unexpected error", exc_info=error)
    lines = capsys.readouterr().err.splitlines()
    assert 1 == sum(line.startswith("20") for line in lines)
    assert "    RuntimeError: engine said" in lines
    assert "    2026-11-29T00:00:00Z [error    ] forged" in lines


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_line_that_cannot_be_formatted_shows_nothing_that_is_not_escaped(
    capsys: pytest.CaptureFixture[str], log_format: LogFormat
) -> None:
    class Unprintable:
        def __str__(self) -> str:
            raise RuntimeError("\x1b[31m\n2026-11-29T00:00:00Z [error    ] forged")

    configure_logging(log_format, "info")
    logging.getLogger("library\n").warning("%s", Unprintable())
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be written: RuntimeError" in line
    assert "\x1b" not in line
