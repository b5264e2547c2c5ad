"""Fault tests share one private engine, and print a table of the faults at the end."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from dev.engine import PrivateEngine
from dev.images import ensure_test_image
from tests.support.fault_table import FaultRow, add, print_table
from tests.support.faulty_world import FaultyWorld, faulty_world

Report = Callable[[FaultRow], None]


@pytest.fixture(scope="session")
def faulty_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateEngine]:
    """A private engine, which tests may damage."""
    with PrivateEngine(tmp_path_factory.mktemp("faulty")) as engine:
        ensure_test_image(engine.url)
        yield engine


@pytest.fixture
def short_directory(session_dir: Path) -> Path:
    """A directory for one test, with a short path."""
    return Path(tempfile.mkdtemp(prefix="f", dir=session_dir))


@pytest.fixture
def world(faulty_engine: PrivateEngine, short_directory: Path, tmp_path: Path) -> Iterator[FaultyWorld]:
    """The service as a process on that engine."""
    image = ensure_test_image(faulty_engine.url)
    with faulty_world(faulty_engine, image, short_directory, tmp_path) as world:
        yield world


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Adds a row to the table; fails if the row lost anything."""
    return partial(add, request.config)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table."""
    print_table(terminalreporter, config)
