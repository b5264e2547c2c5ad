"""A long operation ends for those who watch it, whatever becomes of it."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from container_manager.errors import InternalError, OperationInProgressError, ShuttingDownError, StateUnavailableError
from container_manager.maintenance.journal import Journal, Record
from container_manager.maintenance.runs import Run, Runs
from container_manager.maintenance.task import Result, Task
from container_manager.operation import Operation, Wait
from container_manager.scheduling.bot_operations import BotOperations
from tests.unit.provisioned import BOT, flock_on_nfs

RECORD = Record("r", "odd", BOT, {})


def in_runs(
    path: Path,
    work: Callable[[Task], Operation[Result]],
    scenario: Callable[[Runs], Awaitable[None]],
    look_at: Callable[[str], Awaitable[None]] = lambda _: asyncio.sleep(0),
) -> None:
    """Run a scenario with operations of one kind."""

    async def main() -> None:
        operations = BotOperations(1)
        runs = Runs({"odd": work}, Journal(path), operations, look_at)
        try:
            await asyncio.wait_for(scenario(runs), 20)
        finally:
            await runs.close()
            operations.close()

    asyncio.run(main())


async def ended(run: Run) -> Any:
    """How a run ends: its result, or its error."""
    async for _ in run.reports():
        pass
    try:
        return run.result()
    except Exception as exc:  # noqa: BLE001 - whatever it is
        return exc


def done(task: Task) -> Operation[Result]:
    """An operation that does nothing."""
    yield from ()
    task.enter("first")
    return {"done": True}


def test_an_error_of_the_view_after_its_end_does_not_keep_an_operation_from_ending(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_bot_id: str) -> None:
        raise ValueError("a bug")

    async def scenario(runs: Runs) -> None:
        assert {"done": True} == await ended(await runs.attach(RECORD))
        assert {"done": True} == await ended(await runs.attach(Record("s", "odd", BOT, {})))

    in_runs(tmp_path, done, scenario, broken)
    assert f"unexpected error: bot {BOT} could not be looked at" in caplog.text


def test_what_an_unexpected_error_has_broken_off_lets_no_other_operation_of_the_bot_begin(tmp_path: Path) -> None:
    """The next start of the service continues it: from its record, as it is."""

    def buggy(task: Task) -> Operation[Result]:
        yield from ()
        task.enter("first")
        raise ValueError("a bug")

    async def scenario(runs: Runs) -> None:
        for _ in range(2):
            error = await ended(await runs.attach(RECORD))
            assert isinstance(error, InternalError)
            assert "the next start of the service continues it" in str(error)
        with pytest.raises(OperationInProgressError):
            await runs.attach(Record("s", "odd", BOT, {}))

    in_runs(tmp_path, buggy, scenario)
    assert ["first"] == [record.phase for record in Journal(tmp_path).unfinished()]


def test_a_bug_before_the_first_phase_leaves_nothing(tmp_path: Path) -> None:
    def buggy(_task: Task) -> Operation[Result]:
        yield from ()
        raise ValueError("a bug")

    async def scenario(runs: Runs) -> None:
        for _ in range(2):
            assert isinstance(await ended(await runs.attach(RECORD)), ValueError)

    in_runs(tmp_path, buggy, scenario)
    assert Journal(tmp_path).find("r") is None


def test_those_who_watch_are_told_that_the_service_shuts_down(tmp_path: Path) -> None:
    def waiting(task: Task) -> Operation[Result]:
        task.enter("first")
        yield Wait(seconds=60)
        return {}

    async def scenario(runs: Runs) -> None:
        watching = asyncio.create_task(ended(await runs.attach(RECORD)))
        await asyncio.sleep(0)
        await runs.close()
        assert isinstance(await watching, ShuttingDownError)

    in_runs(tmp_path, waiting, scenario)


@pytest.mark.parametrize("flock", [fcntl.flock, flock_on_nfs])
def test_what_another_service_may_work_on_is_neither_continued_nor_removed(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    flock: Callable[[int, int], None],
) -> None:
    """On the same machine or another one; also what a service has begun that was not alone when it started."""
    monkeypatch.setattr(fcntl, "flock", flock)
    Journal(tmp_path).save(replace(RECORD, phase="first"))
    first, second = Journal(tmp_path), Journal(tmp_path)
    assert first.hold()
    assert first.share()
    assert not second.hold()
    cleaned: list[object] = []

    async def scenario(runs: Runs) -> None:
        await runs.recover(lambda owner, busy: cleaned.append((owner, busy)))

    async def refused(runs: Runs) -> None:
        await scenario(runs)
        error = await ended(await runs.attach(RECORD))
        assert isinstance(error, OperationInProgressError)

    for count, journal in enumerate((first, second), start=1):
        in_runs(tmp_path, done, refused)
        assert [] == cleaned
        assert ["first"] == [record.phase for record in journal.unfinished()]
        assert count == caplog.text.count("another service has this secrets root")
        journal.release()

    async def recovered(runs: Runs) -> None:
        await scenario(runs)
        assert not second.hold(), "it serves"
        second.release()
        assert {"done": True} == await ended(await runs.attach(RECORD))

    in_runs(tmp_path, done, recovered)
    assert [(Journal(tmp_path).identity(), {BOT})] == cleaned
    assert second.hold()


def test_of_two_services_that_start_at_once_one_continues_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that becomes a shared one is free for a moment."""
    Journal(tmp_path).save(replace(RECORD, phase="first"))
    other, flock = Journal(tmp_path), fcntl.flock
    begun = False

    def free_for_a_moment(held: int, operation: int) -> None:
        nonlocal begun
        if operation == fcntl.LOCK_SH | fcntl.LOCK_NB and not begun:
            begun = True
            flock(held, fcntl.LOCK_UN)
            assert other.hold()
        elif operation == fcntl.LOCK_SH:
            assert other.share()
        flock(held, operation)

    monkeypatch.setattr(fcntl, "flock", free_for_a_moment)

    async def scenario(runs: Runs) -> None:
        await runs.recover(lambda *_: None)
        assert ["first"] == [record.phase for record in other.unfinished()]

    in_runs(tmp_path, done, scenario)
    other.release()


def test_a_start_that_cannot_read_what_is_left_lets_others_begin(tmp_path: Path) -> None:
    def fail(*_: object) -> None:
        raise StateUnavailableError("no")

    async def scenario(runs: Runs) -> None:
        with pytest.raises(StateUnavailableError):
            await runs.recover(fail)
        other = Journal(tmp_path)
        assert not await asyncio.wait_for(asyncio.to_thread(other.hold), 10)
        other.release()

    in_runs(tmp_path, done, scenario)
