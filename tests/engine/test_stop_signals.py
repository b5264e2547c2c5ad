"""How a stop ends when the image asks for another signal than SIGTERM, with the engine's init process between."""

from __future__ import annotations

import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from tests.support.bots import Bots
from tests.support.calls import Calls
from tests.support.start_failure_contract import BuildImage

SIGNALS = [("SIGINT", 2), ("quit", 3), ("10", 10), ("SIGHUP", 1), ("SIGRTMIN+3", 37), ("rtmax-1", 63), ("SIGKILL", 9)]


def stopped(calls: Calls, bots: Bots, image: str, script: str) -> pb.ContainerStatus:
    bot_id = bots.new()
    calls.run(bot_id, "sh", "-c", script, image=image)
    bots.wait_for_log(bot_id, b"ready")
    calls.stop(bot_id, grace=10)
    status = calls.status(bot_id)
    assert status is not None
    assert status.state == pb.CONTAINER_STATE_EXITED
    return status


@pytest.mark.parametrize(("text", "number"), SIGNALS)
def test_a_process_that_the_images_stop_signal_ends_was_killed(
    calls: Calls, bots: Bots, build_image: BuildImage, text: str, number: int
) -> None:
    image = build_image(f"STOPSIGNAL {text}")
    status = stopped(calls, bots, image, "echo ready; exec sleep 1000")
    assert (status.exit_code, status.exit_reason) == (128 + number, pb.EXIT_REASON_KILLED)


def test_a_process_that_handles_the_images_stop_signal_has_completed(
    calls: Calls, bots: Bots, build_image: BuildImage
) -> None:
    image = build_image("STOPSIGNAL SIGUSR1")
    status = stopped(calls, bots, image, "trap 'exit 0' USR1; echo ready; while :; do sleep 0.1; done")
    assert (status.exit_code, status.exit_reason) == (0, pb.EXIT_REASON_COMPLETED)


def test_a_signal_that_the_image_does_not_ask_for_is_an_error(
    calls: Calls, bots: Bots, build_image: BuildImage
) -> None:
    """The process dies of SIGSEGV (139) when it is asked to stop."""
    image = build_image("STOPSIGNAL SIGINT")
    script = "trap 'trap - SEGV; kill -SEGV $$' INT; echo ready; while :; do sleep 0.1; done"
    status = stopped(calls, bots, image, script)
    assert (status.exit_code, status.exit_reason) == (139, pb.EXIT_REASON_ERROR)
