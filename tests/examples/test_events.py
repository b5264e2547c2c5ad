"""The example's server-sent events with a scripted service: what a reader gets when it is slow, late or idle."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import AsyncIterator
from contextlib import aclosing
from types import ModuleType
from typing import Any

import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from tests.examples.conftest import APP

pytest.importorskip("fastapi")

Event = observer_pb.WatchContainersResponse


@pytest.fixture
def module() -> ModuleType:
    """The example's module."""
    spec = importlib.util.spec_from_file_location("api_tier_events", APP / "events.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Observer:
    """Streams what a test puts in."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Event] = asyncio.Queue()

    async def WatchContainers(self, _: Any) -> AsyncIterator[Event]:  # noqa: N802 - the contract's name
        while True:
            yield await self.queue.get()
            self.queue.task_done()

    def tell(self, **event: Any) -> None:
        """Stream an event."""
        self.queue.put_nowait(Event(version=7, **event))


def status(container: str) -> pb.ContainerStatus:
    return pb.ContainerStatus(container_id=container, bot_id=f"bot-{container}")


async def following(module: ModuleType) -> tuple[Any, Observer, asyncio.Task[None]]:
    """Events in sync, with one container."""
    observer = Observer()
    events = module.Events(observer)
    task = asyncio.create_task(events.follow())
    observer.tell(snapshot=status("a"))
    observer.tell(synced=observer_pb.Synced())
    return events, observer, task


async def lines(stream: AsyncIterator[str], count: int) -> list[str]:
    """The names of the next events, and comments."""
    found = []
    async for text in stream:
        if not text.startswith("retry"):
            found.append(text.split("event: ")[-1].split("\n")[0])
        if len(found) == count:
            break
    return found


def test_an_idle_stream_is_kept_alive_also_before_the_service_answers(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEEP_ALIVE_SECONDS", 0.01)

    async def run() -> None:
        observer = Observer()
        events = module.Events(observer)
        task = asyncio.create_task(events.follow())
        async with aclosing(events.read("", ())) as stream:
            assert [": keep-alive"] * 2 == await lines(stream, 2)
            observer.tell(synced=observer_pb.Synced())
            assert "synced" in await lines(stream, 20)
            assert [": keep-alive"] == await lines(stream, 1)
        task.cancel()

    asyncio.run(run())


def test_a_reader_that_falls_behind_what_is_kept_gets_all_statuses_again(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_RECENT", 2)

    async def run() -> None:
        events, observer, task = await following(module)
        async with aclosing(events.read("", ())) as stream:
            assert ["snapshot", "synced"] == await lines(stream, 2)
            for container in "bcd":
                observer.tell(changed=status(container))
            observer.tell(removed=observer_pb.Removed(container_id="a"))
            await observer.queue.join()
            assert [*["snapshot"] * 3, "synced"] == await lines(stream, 4)
            observer.tell(changed=status("b"))
            assert ["changed"] == await lines(stream, 1)
        task.cancel()

    asyncio.run(run())
