"""Records the outcome of every call, how long it took, and whether the contract allows it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager import errors
from container_manager_client import error_info

# How long after its deadline a call may end: two busy cores and their schedulers.
MARGIN_SECONDS = 2.0


@dataclass(frozen=True)
class Outcome:
    """How one call ended."""

    verb: str
    bot_id: str
    code: str
    reason: str
    message: str
    begun: float
    seconds: float
    deadline_seconds: float
    response: Any = None
    metadata: tuple[tuple[str, str], ...] = ()

    @property
    def known(self) -> bool:
        """Whether the effect of the call is known: after a broken connection or a deadline it is not."""
        return self.code not in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "RESOURCE_EXHAUSTED", "CANCELLED")


class Recorder:
    """Makes calls from any thread and keeps their outcomes."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.broken_connections_allowed = threading.Event()
        """Set while the service is down: then gRPC itself may fail the calls."""
        self.wrong: list[str] = []

    def call(self, stub: ContainerManagerStub, verb: str, request: Any, seconds: float) -> Outcome:
        """Make the call; notes an outcome that the contract does not allow in ``wrong``."""
        allowed = self.broken_connections_allowed.is_set()
        begun = time.monotonic()
        try:
            result = getattr(stub, verb)(request, timeout=seconds)
        except grpc.RpcError as exc:
            result = exc
        return self.ended(verb, request, begun, seconds, result, allowed=allowed)

    def ended(
        self, verb: str, request: Any, begun: float, seconds: float, result: Any, *, allowed: bool = False
    ) -> Outcome:
        """Note the end of a call: a response, or the error that it raised."""
        code, reason, message, response, metadata = "OK", "", "", result, ()
        if isinstance(result, grpc.RpcError):
            info = error_info(result)
            code, reason, message, response = info.code.name, info.reason, info.message, None
            metadata = tuple(sorted(info.metadata.items()))
        outcome = Outcome(
            verb=verb,
            bot_id=getattr(request, "bot_id", ""),
            code=code,
            reason=reason,
            message=message,
            begun=begun,
            seconds=time.monotonic() - begun,
            deadline_seconds=seconds,
            response=response,
            metadata=metadata,
        )
        self.outcomes.append(outcome)
        self._judge(outcome, allowed=allowed or self.broken_connections_allowed.is_set())
        return outcome

    def history(self, bot_id: str) -> str:
        """The calls for one bot, a line each, for a person."""
        return "\n".join(
            f"{each.begun:.3f} + {each.seconds:.3f} s {each.verb}: {each.code} {each.reason} {each.message} "
            f"{getattr(each.response, 'container_id', '')} {dict(each.metadata)}"
            for each in self.outcomes
            if each.bot_id == bot_id
        )

    def codes(self) -> Counter[str]:
        """How many calls ended with each code."""
        return Counter(outcome.code for outcome in self.outcomes)

    def _judge(self, outcome: Outcome, *, allowed: bool) -> None:
        told = f"{outcome.verb} of {outcome.bot_id}: {outcome.code} {outcome.reason} {outcome.message}"
        late = outcome.seconds - outcome.deadline_seconds
        if late > MARGIN_SECONDS:
            self.wrong.append(f"{told}: {late:.1f} s after its deadline")
        by_grpc = allowed and not outcome.reason and outcome.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
        # The service answers 0.2 s before a deadline, which may not be enough on a busy machine.
        by_grpc |= (outcome.code, outcome.reason) == ("DEADLINE_EXCEEDED", "") and late > -0.1
        if (outcome.code, outcome.reason) not in CONTRACT and not by_grpc:
            self.wrong.append(f"{told}: no outcome of the contract")


def _subclasses(cls: type[errors.ContainerManagerError]) -> Iterator[type[errors.ContainerManagerError]]:
    for each in cls.__subclasses__():
        yield each
        yield from _subclasses(each)


CONTRACT = {("OK", ""), *((each.code, each.reason) for each in _subclasses(errors.ContainerManagerError))}
"""Every outcome that a call may have; INTERNAL is not one."""


def create_request(bot_id: str, *command: str, network: str = "none") -> pb.CreateContainerRequest:
    """A request to create a bot, which needs no network; the client adds a request id."""
    return pb.CreateContainerRequest(bot_id=bot_id, config=pb.ContainerConfig(command=command, network=network))


def request_of(verb: str, bot_id: str, grace_seconds: int = 0) -> Any:
    """The request of any verb but create."""
    if verb == "ListManagedContainers":
        return pb.ListManagedContainersRequest()
    build: Callable[..., Any] = getattr(pb, f"{verb}Request")
    request = build(bot_id=bot_id)
    if verb in ("StopContainer", "RestartContainer", "RemoveContainer"):
        request.grace_period.FromSeconds(grace_seconds)
    return request
