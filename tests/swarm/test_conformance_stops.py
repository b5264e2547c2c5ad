"""The promises of the contract on a swarm that its backends do not share: bots that take long to stop, and secrets.

The tests share eight bots, since on a swarm a bot needs a second to start and two to be gone. What a swarm keeps
differently is declared in dev/swarm/differences.toml.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from dev.swarm import SwarmBed
from tests.support.bots import GATEWAY_TOKEN
from tests.support.calls import STUBBORN, Calls, fails_with
from tests.support.provisioning_calls import put_secrets
from tests.support.side_by_side_contract import SideBySideContract, WaitForLog
from tests.support.swarm_bots import SwarmBots
from tests.support.swarm_containers import container_of
from tests.support.waiting import wait_until

OWN_GRACE_SECONDS = 2  # of the fixture swarm_service


@pytest.fixture(scope="module")
def eight(session_bed: SwarmBed, calls: Calls) -> Iterator[SwarmBots]:
    """Bots that ignore SIGTERM."""
    made = SwarmBots(session_bed.nodes[0].docker_url)
    for _ in range(8):
        made.new()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda bot_id: calls.run(bot_id, *STUBBORN), made.ids))
    yield made
    made.remove_all()
    made.close()


@pytest.fixture
def stubborn(eight: SwarmBots, session_bed: SwarmBed, calls: Calls) -> list[str]:
    """The bots that ignore SIGTERM; all run, and have their handler."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(calls.start, eight.ids))
    for bot_id in eight.ids:
        container_of(session_bed, eight, bot_id).wait_for_log("ready")
    return eight.ids


class TestSideBySide(SideBySideContract):
    """With the fixtures of this module."""

    @pytest.mark.slow
    @pytest.mark.usefixtures("early_answers")
    def test_an_operation_that_holds_the_bot_past_the_deadline_aborts_the_next(
        self, calls: Calls, wait_for_log: WaitForLog, stubborn: list[str]
    ) -> None:
        super().test_an_operation_that_holds_the_bot_past_the_deadline_aborts_the_next(calls, wait_for_log, stubborn)


def seconds_of_stop(calls: Calls, bot_id: str, grace: float | None) -> float:
    """How long the stop takes of a bot that then has been killed."""
    begun = time.monotonic()
    calls.stop(bot_id, grace=grace)
    seconds = time.monotonic() - begun
    status = calls.status(bot_id)
    assert status is not None
    assert (pb.CONTAINER_STATE_EXITED, 137, pb.EXIT_REASON_KILLED) == (
        status.state,
        status.exit_code,
        status.exit_reason,
    )
    return seconds


def test_conformance_05_a_bot_has_its_own_grace_period_or_through_its_nodes_engine_a_shorter_or_a_longer_one(
    session_bed: SwarmBed, eight: SwarmBots, stubborn: list[str], calls: Calls
) -> None:
    own, shorter, longer, *_ = stubborn
    with ThreadPoolExecutor(3) as pool:
        stops = [
            pool.submit(seconds_of_stop, calls, bot_id, grace)
            for bot_id, grace in ((own, None), (shorter, 0), (longer, OWN_GRACE_SECONDS + 3))
        ]
        seconds = [stop.result() for stop in stops]
    assert OWN_GRACE_SECONDS <= seconds[0]
    assert OWN_GRACE_SECONDS + 3 <= seconds[2]
    assert seconds[1] < seconds[0], "zero kills at once"
    calls.start(own)
    container_of(session_bed, eight, own).wait_for_log("ready")
    assert 1 <= seconds_of_stop(calls, own, 0.2), "part seconds are rounded up"


@pytest.mark.slow
def test_conformance_05_a_grace_of_90_seconds_is_not_cut_short(stubborn: list[str], calls: Calls) -> None:
    assert 90 <= seconds_of_stop(calls, stubborn[0], 90)


def test_conformance_05_another_grace_period_is_refused_with_its_field_where_the_nodes_engine_is_not_named(
    stubborn: list[str], managers_only: Calls
) -> None:
    bot_id = stubborn[0]
    before = managers_only.status(bot_id)
    for verb in (managers_only.stop, managers_only.restart, managers_only.remove):
        for grace in (0, OWN_GRACE_SECONDS + 1):
            with fails_with("UNIMPLEMENTED", "NOT_SUPPORTED_BY_BACKEND") as caught:
                verb(bot_id, grace=grace)
            assert "grace_period" == caught[0].metadata["field"]
    assert before == managers_only.status(bot_id)
    assert seconds_of_stop(managers_only, bot_id, OWN_GRACE_SECONDS) >= OWN_GRACE_SECONDS


def test_conformance_07_a_bot_reads_its_own_secrets_and_cannot_write_them(
    session_bed: SwarmBed, eight: SwarmBots, stubborn: list[str]
) -> None:
    """Another bot's secrets are nowhere in its container."""
    container = container_of(session_bed, eight, stubborn[0])
    assert (0, "/run/secrets\n/run/secrets/GATEWAY_TOKEN\n") == container.run("find", "/run/secrets")
    for attempt in ("echo x >/run/secrets/GATEWAY_TOKEN", "rm /run/secrets/GATEWAY_TOKEN"):
        assert 0 != container.run("sh", "-c", attempt, user="0:0")[0], attempt
    assert (0, GATEWAY_TOKEN) == container.run("cat", "/run/secrets/GATEWAY_TOKEN")
    # The directory is the container's own: root, but no other user, may make new files beside the secrets.
    made = [0 == container.run("touch", "/run/secrets/new", user=user)[0] for user in ("1000:1000", "0:0")]
    assert [False, True] == made


def test_conformance_18_a_rotated_secret_reaches_the_bot_with_its_next_start(
    session_bed: SwarmBed, eight: SwarmBots, stubborn: list[str], calls: Calls, provisioner: BotProvisionerStub
) -> None:
    bot_id, read = stubborn[1], ("cat", "/run/secrets/GATEWAY_TOKEN")
    container = container_of(session_bed, eight, bot_id)
    assert (0, GATEWAY_TOKEN) == container.run(*read)
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"rotated")
    assert (0, GATEWAY_TOKEN) == container.run(*read)
    calls.restart(bot_id, grace=0)
    assert (0, "rotated") == container_of(session_bed, eight, bot_id).run(*read)


def test_conformance_14_a_client_that_cancels_in_mid_stop_still_leaves_the_bot_stopped(
    session_bed: SwarmBed, eight: SwarmBots, stubborn: list[str], calls: Calls
) -> None:
    bot_id = stubborn[0]
    request = pb.StopContainerRequest(bot_id=bot_id, grace_period=Duration(seconds=OWN_GRACE_SECONDS))
    container = container_of(session_bed, eight, bot_id)
    call = calls.stub.StopContainer.future(request)
    container.wait_for_log("asked")
    call.cancel()
    with pytest.raises(grpc.FutureCancelledError):
        call.result()

    def ended() -> pb.ContainerStatus | None:
        found = calls.status(bot_id)
        return found if found is not None and found.state == pb.CONTAINER_STATE_EXITED else None

    assert 137 == wait_until(ended, "it has ended").exit_code
