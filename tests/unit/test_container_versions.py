"""Waiting for a change of one container."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from container_manager.model import ContainerState
from container_manager.view.container_versions import ContainerVersions
from tests.support.virtual_loop import virtual
from tests.unit.viewing import A, B, apply, trusted_view

STOPPED = replace(A, state=ContainerState.EXITED)


@virtual
async def test_the_version_is_that_of_the_containers_last_change_and_of_a_gone_one_there_is_none() -> None:
    view = trusted_view()
    changes = ContainerVersions(view)
    apply(view, A)
    version = view.version
    apply(view, B)
    assert (version, view.version) == (changes.version(A.container_id), changes.version(B.container_id))
    view.remove(A.container_id)
    assert changes.version(A.container_id) is None


@virtual
async def test_a_change_that_has_been_is_not_waited_for() -> None:
    view = trusted_view(A)
    changes = ContainerVersions(view)
    before = view.version
    apply(view, STOPPED)
    async with asyncio.timeout(0):
        assert view.version == await changes.await_change(A.container_id, before)
        view.remove(A.container_id)
        assert await changes.await_change(A.container_id, before) is None


@virtual
async def test_all_who_wait_are_woken_by_a_change_of_their_container_and_by_no_other() -> None:
    view = trusted_view(A, B)
    changes = ContainerVersions(view)
    before = changes.version(A.container_id) or 0
    waiting = [asyncio.ensure_future(changes.await_change(A.container_id, before)) for _ in range(3)]
    await asyncio.sleep(1)
    apply(view, replace(B, state=ContainerState.EXITED))
    view.remove(B.container_id)
    await asyncio.sleep(1)
    assert not any(each.done() for each in waiting)
    apply(view, STOPPED)
    assert [view.version] * 3 == await asyncio.gather(*waiting)


@virtual
async def test_a_removal_ends_the_wait() -> None:
    view = trusted_view(A)
    changes = ContainerVersions(view)
    waiting = asyncio.ensure_future(changes.await_change(A.container_id, changes.version(A.container_id) or 0))
    await asyncio.sleep(1)
    view.remove(A.container_id)
    assert await waiting is None


@pytest.mark.parametrize("removed", [False, True])
@virtual
async def test_a_loss_of_the_engine_is_a_change_of_every_container_told_when_it_is_back(removed: bool) -> None:
    view = trusted_view(A, B)
    changes = ContainerVersions(view)
    before = changes.version(A.container_id) or 0
    waiting = asyncio.ensure_future(changes.await_change(A.container_id, before))
    await asyncio.sleep(1)
    view.lose()
    lost_version = view.version
    if removed:
        view.remove(A.container_id)
    await asyncio.sleep(1)
    assert not waiting.done()
    view.regain()
    assert (None if removed else lost_version) == await waiting
    assert lost_version == changes.version(B.container_id)
    apply(view, replace(B, state=ContainerState.EXITED))
    assert view.version == changes.version(B.container_id), "what has changed since is newer than the loss"


@virtual
async def test_one_who_gives_up_takes_the_change_from_nobody_and_in_the_end_nothing_is_kept() -> None:
    view = trusted_view(A)
    changes = ContainerVersions(view)
    before = changes.version(A.container_id) or 0
    leaving, staying = (asyncio.ensure_future(changes.await_change(A.container_id, before)) for _ in range(2))
    await asyncio.sleep(1)
    leaving.cancel()
    # Woken and then cancelled at the same time, and in the other order.
    apply(view, STOPPED)
    assert view.version == await staying
    assert leaving.cancelled()
    assert {} == changes._waiting
