"""Random operations on bots' containers, through the service and behind its back; checked where possible.

An actor is a thread with a seed. Only one own actor uses its bots, so each of its changes must show at once and
exactly; a meddler changes bots through the engine's API while others use them.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import docker
import grpc
import requests
from docker.errors import APIError, DockerException

from botmaker.container.v1 import container_manager_pb2 as pb
from container_manager_client import error_info
from tests.support.calls import FOREVER, Calls

COMMANDS = (
    FOREVER,
    ("sh", "-c", "sleep 0.3; exit 3"),
    ("sh", "-c", "sleep 0.2; exit 0"),
    ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"),
    ("no-such-command",),
)
DOWN = (pb.CONTAINER_STATE_EXITED, pb.CONTAINER_STATE_CREATED)
UP = (pb.CONTAINER_STATE_RUNNING, pb.CONTAINER_STATE_RESTARTING, pb.CONTAINER_STATE_EXITED)
# The codes that an operation may end with while others change the same bot, or while the engine is away.
EXPECTED = ("UNAVAILABLE", "NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION", "ABORTED", "DEADLINE_EXCEEDED")


class Actors:
    """All threads of one run, and their failures."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.away = threading.Event()
        """The engine is being restarted: operations may fail, and containers change by themselves."""
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def own(self, number: int, calls: Calls, bot_ids: Sequence[str]) -> None:
        """Start an actor that shares its bots with no other."""
        draw = random.Random(f"{self.seed} own {number}")
        self._start(lambda: self._own_step(draw, calls, draw.choice(bot_ids)))

    def shared(self, number: int, calls: Calls, bot_ids: Sequence[str]) -> None:
        """Start an actor that uses the service on bots that meddlers change, too."""
        draw = random.Random(f"{self.seed} shared {number}")
        self._start(lambda: self._shared_step(draw, calls, draw.choice(bot_ids)))

    def meddler(self, number: int, engine_url: str, bot_ids: Sequence[str], image: str) -> None:
        """Start an actor that acts on the engine behind the service's back."""
        draw = random.Random(f"{self.seed} meddler {number}")
        api = docker.APIClient(base_url=engine_url, version="1.41", timeout=60)
        self._start(lambda: meddle(api, draw, draw.choice(bot_ids), image, self.done), api.close)

    def stop(self) -> None:
        """Stop all actors after their current operation."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(timeout=120)

    def _start(self, step, close=lambda: None) -> None:
        def run() -> None:
            while not self._stopped.is_set():
                try:
                    step()
                except Exception as exc:  # noqa: BLE001 - reported in the test's own thread
                    self.wrong.append(f"{type(exc).__name__}: {exc}")
                    break
            close()

        thread = threading.Thread(target=run, name=f"actor {len(self._threads)}")
        self._threads.append(thread)
        thread.start()

    def _own_step(self, draw: random.Random, calls: Calls, bot_id: str) -> None:
        verb = draw.choice(("create", "create", "start", "start", "stop", "restart", "remove"))
        away = self.away.is_set()
        outcome = self._do(draw, calls, bot_id, verb)
        try:
            status = calls.status(bot_id)
            listed = calls.listed([bot_id])
        except grpc.RpcError:
            if not (away or self.away.is_set()):
                raise
            return
        # An engine restart in between may have changed the containers.
        if outcome is not None and not (away or self.away.is_set()):
            self._check(verb, outcome, bot_id, status, listed)

    def _check(
        self, verb: str, outcome: str, bot_id: str, status: pb.ContainerStatus | None, listed: list[pb.ContainerStatus]
    ) -> None:
        state = None if status is None else status.state
        right = {
            "create OK": state == pb.CONTAINER_STATE_CREATED,
            "create ALREADY_EXISTS": state is not None,
            "start OK": state in UP and status is not None and status.HasField("start_time"),
            "restart OK": state in UP and status is not None and status.HasField("start_time"),
            "start NOT_FOUND": state is None,
            "restart NOT_FOUND": state is None,
            "start FAILED_PRECONDITION": status is not None and status.exit_reason == pb.EXIT_REASON_START_FAILED,
            "restart FAILED_PRECONDITION": status is not None and status.exit_reason == pb.EXIT_REASON_START_FAILED,
            "stop OK": state is None or state in DOWN,
            "remove OK": state is None,
        }
        shown = [] if status is None else [status.container_id]
        if not right.get(f"{verb} {outcome}", False) or shown != [each.container_id for each in listed]:
            self.wrong.append(f"after {verb} {outcome} of {bot_id}: status {status}, list {listed}")

    def _shared_step(self, draw: random.Random, calls: Calls, bot_id: str) -> None:
        self._do(draw, calls, bot_id, draw.choice(("create", "start", "stop", "restart", "remove")))

    def _do(self, draw: random.Random, calls: Calls, bot_id: str, verb: str) -> str | None:
        """The code that the call ended with; ``None``: its effect is unknown."""
        try:
            if verb == "create":
                ports = [pb.PortBinding(container_port=8080)] * draw.randint(0, 1)
                calls.create(bot_id, *draw.choice(COMMANDS), timeout=60, ports=ports)
            elif verb == "start":
                calls.start(bot_id)
            else:
                getattr(calls, verb)(bot_id, grace=draw.choice((0, 1)))
        except grpc.RpcError as exc:
            code = error_info(exc).code.name
            if code not in EXPECTED:
                self.wrong.append(f"{verb} of {bot_id}: {code} {error_info(exc).message}")
            self.done[f"{verb} {code}"] += 1
            return None if code in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED") else code
        self.done[f"{verb} OK"] += 1
        return "OK"


def meddle(api: docker.APIClient, draw: random.Random, bot_id: str, image: str, done: Counter[str]) -> None:
    """One operation directly on the engine, on the bot's container or on one that only has its label."""
    name = draw.choice((f"botmaker-{bot_id}", f"botmaker-{bot_id}", f"other-{bot_id}"))
    verb = draw.choice(
        ("create", "start", "stop", "kill", "pause", "unpause", "rename", "remove", "crash", "sicken", "heal")
    )
    # An operation that the container's state or the absence of the engine rules out is skipped.
    with suppress(APIError, DockerException, requests.RequestException, OSError):
        if verb == "create":
            create_behind_the_back(api, name, bot_id, image)
        elif verb == "stop":
            api.stop(name, timeout=draw.choice((0, 1)))
        elif verb == "rename":
            other = f"other-{bot_id}" if name.startswith("botmaker-") else f"botmaker-{bot_id}"
            api.rename(name, other)
        elif verb == "remove":
            api.remove_container(name, force=draw.random() < 0.7)
        elif verb == "crash":
            api.kill(name, signal="SIGSEGV")
        elif verb in ("sicken", "heal"):
            command = ["touch", "/tmp/sick"] if verb == "sicken" else ["rm", "-f", "/tmp/sick"]
            api.exec_start(api.exec_create(name, command)["Id"])
        else:
            getattr(api, verb)(name)
        done[f"behind the back: {verb}"] += 1
    time.sleep(draw.random() * 0.1)


def create_behind_the_back(api: docker.APIClient, name: str, bot_id: str, image: str) -> None:
    """A container like the service's, with a health check whose result can change."""
    body = {
        "Image": image,
        "Cmd": list(FOREVER),
        "Labels": {"botmaker.managed": "true", "botmaker.bot-id": bot_id},
        "Healthcheck": {"Test": ["CMD-SHELL", "test ! -e /tmp/sick"], "Interval": 500_000_000, "Retries": 1},
        "HostConfig": {"RestartPolicy": {"Name": "unless-stopped"}, "Init": True},
    }
    api.create_container_from_config(body, name)
