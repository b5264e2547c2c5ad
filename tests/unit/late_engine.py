"""A scripted engine that keeps containers, and can carry out a create long after it was sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from threading import Event

from tests.support.fake_engine import NO_CONTENT, Answer, FakeEngine, Json, Request, error
from tests.support.threads import started_since
from tests.support.waiting import wait_until
from tests.unit.creating import ABSENT, CREATE, REMOVE
from tests.unit.documents import inspected, node_program, row

LIST = ("GET", "/containers/json")


class LateEngine:
    """Makes an engine keep containers. A test may override any of its answers."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.containers: dict[str, Request] = {}
        """The requests that made them, by container id."""
        self.running: set[str] = set()
        self.held: list[Request] = []
        """Creates that have not been carried out."""
        self.answer_to_create: Callable[[Request], Answer] = self.make
        self.before_list = Event()
        self.before_list.set()
        self._made = 0
        self._before = set(threading.enumerate())
        engine.on("HEAD", "/containers/*/archive", node_program)
        engine.on("GET", "/containers/*/json", self._inspect)
        engine.on(*LIST, self._list)
        engine.on(*CREATE, self._create)
        engine.on(*REMOVE, self.remove)

    def hold(self, answer: Answer) -> None:
        """Answer creates with this, and keep them for :meth:`carry_out`."""

        def held(request: Request) -> Answer:
            self.held.append(request)
            return answer

        self.answer_to_create = held

    def carry_out(self) -> list[str]:
        """Carry out what was held, and creates from now on at once; the new containers."""
        self.answer_to_create = self.make
        made = [str(self.make(request).document["Id"]) for request in self.held]
        self.held.clear()
        return made

    def make(self, request: Request) -> Json:
        """Carry out a create."""
        if any(each.query["name"] == request.query["name"] for each in self.containers.values()):
            return error(409, "Conflict. The container name is already in use")
        self._made += 1
        container_id = f"{self._made:064x}"
        self.containers[container_id] = request
        return Json({"Id": container_id}, 201)

    def remove(self, request: Request) -> Answer:
        """Carry out a removal."""
        container_id = request.path.rpartition("/")[2]
        if container_id in self.running and request.query["force"] == "0":
            return error(409, "You cannot remove a running container")
        return NO_CONTENT if self.containers.pop(container_id, None) else ABSENT

    def searches(self) -> list[Request]:
        """The lists of containers that were never started, in which creates that were given up are searched for."""
        return [each for each in self.engine.seen(*LIST) if "status" in each.query["filters"]]

    def await_searches(self, count: int) -> None:
        """Wait for so many searches."""
        wait_until(lambda: len(self.searches()) >= count, f"{count} searches")

    def searching(self) -> int:
        """The number of threads that search since this engine is there."""
        return started_since(self._before).count("creates given up")

    def await_the_end(self) -> None:
        """Wait until no thread searches."""
        wait_until(lambda: not self.searching(), "the search has ended")

    def _create(self, request: Request) -> Answer:
        return self.answer_to_create(request)

    def _inspect(self, request: Request) -> Json:
        key = request.path.split("/")[2]
        for container_id, made in self.containers.items():
            if key in (container_id, made.query["name"]):
                mounts = [{"Destination": each["Target"]} for each in made.body["HostConfig"]["Mounts"]]
                return Json(
                    inspected(
                        container_id=container_id, name=made.query["name"], labels=made.body["Labels"], Mounts=mounts
                    )
                )
        return ABSENT

    def _list(self, request: Request) -> Json:
        filters = json.loads(request.query["filters"])
        if "status" not in filters:
            # The look-up of a bot's containers of other names; all of these have the bot's own.
            return Json([])
        rows = [
            row(container_id, Labels=made.body["Labels"], State="created")
            for container_id, made in self.containers.items()
            if container_id not in self.running
        ]
        assert {"label": ["botmaker.managed=true"], "status": ["created"]} == filters
        self.before_list.wait()
        return Json(rows)
