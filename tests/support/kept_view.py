"""A live view of a fake engine, with everything that maintains it, and a witness of all its notifications."""

from __future__ import annotations

import asyncio
from typing import Self

from container_manager.model import ContainerStatus, owned_bot
from container_manager.view.audit import Audit
from container_manager.view.live_view import Entry, LiveView
from container_manager.view.refresher import Refresher
from container_manager.view.synchronizer import Synchronizer
from tests.support.fake_source import FakeSource, row_of, serial_of


class Witness:
    """A listener that records its notifications, and those that cannot be true."""

    def __init__(self, source: FakeSource) -> None:
        self.told: list[str] = []
        self.wrong: list[str] = []
        self._source = source
        self._shown: dict[str, int] = {}
        self._gone: set[str] = set()
        self._version = 0

    def changed(self, entry: Entry) -> None:
        key, status, number = entry.status.container_id, entry.status, serial_of(entry.status)
        self._tell(f"changed {number}", entry.version)
        self._must(key not in self._gone or key in self._source.denied, "was back after it was removed")
        self._must(number >= self._shown.get(key, 0), "went back to an older state")
        _, real = self._source.history[number]
        self._must(status == (row_of(real) if real and entry.partial else real), "was never so on the engine")
        self._shown[key] = number

    def removed(self, entry: Entry, version: int) -> None:
        key = entry.status.container_id
        self._tell(f"removed {serial_of(entry.status)}", version)
        there = key in self._source.containers and key not in self._source.denied
        self._must(not there, "was removed and is there")
        self._gone.add(key)

    def lost(self, version: int) -> None:
        self._tell("lost", version)

    def regained(self) -> None:
        self.told.append("regained")

    def _tell(self, what: str, version: int) -> None:
        self.told.append(what)
        self._must(version > self._version, "has a version that did not grow")
        self._version = version

    def _must(self, right: bool, what: str) -> None:
        if not right:
            self.wrong.append(f"what {self.told[-1]!r} is about {what}")


class Kept:
    """A live view of a fake engine, with everything that maintains it; its exit asserts that no notification was wrong.

    async with Kept() as kept:  # trusted; the test calls the refresher
    async with Kept(follow=True) as kept:  # following the engine
    """

    def __init__(self, source: FakeSource | None = None, *, follow: bool = False) -> None:
        self.source = source or FakeSource()
        self.view = LiveView(lambda status: status.image_id.encode(), owned_bot)
        self.refresher = Refresher(self.view, self.source)
        self.synchronizer = Synchronizer(self.view, self.source, self.refresher)
        self.audit = Audit(self.view, self.source, self.refresher)
        self.witness = Witness(self.source)
        self._follow = follow

    async def __aenter__(self) -> Self:
        self.view.add_listener(self.witness)
        if self._follow:
            self.following = asyncio.create_task(self.synchronizer.run())
        else:
            self.view.regain()
        return self

    async def __aexit__(self, failed: object, *_: object) -> None:
        if self._follow:
            self.following.cancel()
            await asyncio.wait({self.following})
        await self.refresher.close()
        assert failed or [] == self.witness.wrong

    def shown(self) -> dict[str, ContainerStatus]:
        """The status of every container in the view, by id."""
        return {entry.status.container_id: entry.status for entry in self.view.entries()}
