"""Conformance 9 on every backend: a start of what is no program is refused with its reason.

A backend's test module inherits the class. Its fixtures: ``calls``, ``bots`` and ``build_image``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from tests.support.calls import Calls, fails_with
from tests.support.lifecycle_contract import SomeBots

BuildImage = Callable[[str], str]
"""Builds an image from the test image and more lines of a Dockerfile."""


class StartFailureContract:
    """Commands and entry points."""

    state: ClassVar[pb.ContainerState.ValueType] = pb.CONTAINER_STATE_CREATED
    """Of a bot whose first start has failed."""

    @pytest.mark.parametrize(
        "command", ["no-such-command", "/no/such/command", "./no-such-command", "/etc/passwd/command", "a" * 256]
    )
    def test_conformance_09_a_missing_command_is_command_not_found(
        self, calls: Calls, bots: SomeBots, command: str
    ) -> None:
        bot_id = bots.new()
        calls.create(bot_id, command, "argument")
        with fails_with("FAILED_PRECONDITION", "COMMAND_NOT_FOUND") as caught:
            calls.start(bot_id)
        status = calls.status(bot_id)
        assert status is not None
        assert status.state == self.state
        assert status.exit_reason == pb.EXIT_REASON_START_FAILED
        assert command.removeprefix("./") in status.error
        assert status.error in caught[0].message
        assert not status.HasField("start_time")
        assert not status.HasField("exit_code")
        assert status.restart_count == 0

    @pytest.mark.parametrize("command", ["/etc", "/etc/not-executable"])
    def test_conformance_09_what_is_no_program_is_command_not_executable(
        self, calls: Calls, bots: SomeBots, build_image: BuildImage, command: str
    ) -> None:
        image = build_image("RUN mkdir -p /etc && echo text > /etc/not-executable && chmod 644 /etc/not-executable")
        bot_id = bots.new()
        calls.create(bot_id, command, image=image)
        with fails_with("FAILED_PRECONDITION", "COMMAND_NOT_EXECUTABLE"):
            calls.start(bot_id)

    @pytest.mark.parametrize(
        "entry_point",
        ['ENTRYPOINT ["/no/such/entrypoint"]', 'RUN ln -s /loop /loop\nENTRYPOINT ["/loop"]'],
        ids=["missing", "a loop of links"],
    )
    def test_conformance_09_a_broken_entry_point_of_the_image_is_told_too(
        self, calls: Calls, bots: SomeBots, build_image: BuildImage, entry_point: str
    ) -> None:
        image = build_image(entry_point)
        bot_id = bots.new()
        calls.create(bot_id, image=image)
        with fails_with("FAILED_PRECONDITION", "COMMAND_NOT_FOUND"):
            calls.start(bot_id)
