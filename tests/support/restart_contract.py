"""Conformance 11 and 15 on every backend: a service that is restarted forgets nothing.

A backend's test module inherits the class. Its fixtures: ``bots``, and ``another_service``, which starts a service with
the backend beside that of ``calls``.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager

from tests.support.calls import FOREVER, Calls
from tests.support.engine_truth import without_last_exits
from tests.support.lifecycle_contract import SomeBots

AnotherService = Callable[[], AbstractContextManager[Calls]]


class RestartContract:
    """Two services, one after the other."""

    def test_conformance_11_the_same_request_id_counts_after_a_server_restart(
        self, bots: SomeBots, another_service: AnotherService
    ) -> None:
        bot_id, request_id = bots.new(), str(uuid.uuid4())
        ids = []
        for _ in range(2):
            with another_service() as calls:
                ids.append(calls.create(bot_id, *FOREVER, request_id=request_id))
        assert ids[0] == ids[1]
        assert len(bots.containers()) == 1

    def test_conformance_15_a_restarted_service_lists_the_same(
        self, bots: SomeBots, another_service: AnotherService
    ) -> None:
        lists = []
        for turn in range(2):
            with another_service() as calls:
                if turn == 0:
                    calls.run(bots.new(), *FOREVER)
                    calls.create(bots.new(), *FOREVER)
                    calls.run(bots.new(), "true")
                    calls.stop(bots.ids[2])
                # The engine forgets how the run before the present one ended, and so does a service that is restarted.
                lists.append(without_last_exits(calls.listed(bots.ids)))
        assert len(lists[0]) == 3
        assert lists[0] == lists[1]
