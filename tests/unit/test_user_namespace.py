"""User namespaces: how an engine tells of one, and which rights reach into it."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from container_manager.bot_directories import BotUser
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.engine.user_namespace import UserNamespace, user_namespace
from container_manager.errors import EngineAccessDeniedError, EngineUnavailableError
from tests.support.fake_engine import Cut, FakeEngine, Json, error

REMAPPED = {"SecurityOptions": ["name=seccomp,profile=default", "name=userns"], "DockerRootDir": "/var/lib/docker/7.9"}
NAMESPACE = UserNamespace(100_000, 200_000)


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (REMAPPED, UserNamespace(7, 9)),
        ({**REMAPPED, "DockerRootDir": "/srv/231072.331072/"}, UserNamespace(231_072, 331_072)),
        ({**REMAPPED, "DockerRootDir": "/var/lib/docker"}, None),
        ({**REMAPPED, "SecurityOptions": ["name=seccomp,profile=default"]}, None),
        ({**REMAPPED, "SecurityOptions": None}, None),
        ({}, None),
    ],
)
def test_an_engine_that_remaps_users_is_known_by_its_options_and_its_root(
    info: dict[str, Any], expected: UserNamespace | None
) -> None:
    assert expected == user_namespace(info)


def is_usable(fault_of: Callable[[os.stat_result, int], str | None], mode: int, uid: int, gid: int) -> bool:
    """Whether a file with this owner and mode may be read. A fault says who is to have it."""
    status = os.stat_result((stat.S_IFREG | mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))
    fault = fault_of(status, stat.S_IROTH)
    assert fault is None or "give it to 101000:201000" in fault
    return fault is None


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "usable"),
    [
        (0o600, 101_000, 201_000, True),
        (0o600, 100_000, 0, True),
        (0o600, 99_999, 201_000, False),
        (0o600, 1000, 1000, False),
        (0o200, 101_000, 201_000, False),
        (0o640, 0, 201_000, True),
        (0o640, 0, 199_999, False),
        (0o604, 0, 0, True),
        (0o600, 165_535, 0, True),
        (0o600, 165_536, 0, False),
        (0o640, 0, 265_535, True),
        (0o640, 0, 265_536, False),
    ],
)
def test_a_file_is_readable_by_a_remapped_owner_a_remapped_group_or_everybody(
    mode: int, uid: int, gid: int, usable: bool
) -> None:
    assert usable == is_usable(NAMESPACE.fault_of, mode, uid, gid)


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "usable"),
    [
        (0o600, 101_000, 201_000, True),
        # The natural chown, to the remapped root.
        (0o600, 100_000, 200_000, False),
        (0o644, 100_000, 200_000, True),
        (0o640, 100_000, 201_000, True),
        (0o604, 100_000, 201_000, False),
        (0o044, 101_000, 201_000, False),
    ],
)
def test_a_file_is_readable_for_a_user_by_the_first_of_owner_group_and_others_that_fits(
    mode: int, uid: int, gid: int, usable: bool
) -> None:
    assert usable == is_usable(partial(NAMESPACE.fault_for, BotUser(1000, 1000)), mode, uid, gid)


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "usable"),
    [
        (0o600, 101_000, 1000, True),
        (0o044, 101_000, 201_000, False),
        (0o600, 100_000, 201_000, False),
        # The user may have any group of the container, and none of the host.
        (0o640, 100_000, 265_535, True),
        (0o640, 100_000, 265_536, False),
        (0o640, 100_000, 199_999, False),
        (0o604, 0, 0, True),
    ],
)
def test_a_file_is_certainly_unreadable_for_a_users_number_by_its_owner_and_by_groups_that_are_not_mapped(
    mode: int, uid: int, gid: int, usable: bool
) -> None:
    assert usable == is_usable(partial(NAMESPACE.fault_for_uid, 1000, BotUser(1000, 1000)), mode, uid, gid)


def test_the_engine_is_asked_once_and_again_after_it_was_unreachable(engine: FakeEngine, client: EngineClient) -> None:
    engine.on("GET", "/info", Json(REMAPPED), Json({}))
    assert [UserNamespace(7, 9)] * 2 == [client.user_namespace(Deadline()) for _ in range(2)]
    assert 1 == len(engine.seen("GET", "/info"))
    engine.on("GET", "/_ping", Cut())
    with pytest.raises(EngineUnavailableError):
        client.ping(Deadline())
    assert None is client.user_namespace(Deadline())


@pytest.mark.parametrize("status", [403, 404])
def test_an_engine_that_may_not_be_asked_counts_as_one_that_remaps_nothing(
    engine: FakeEngine, client: EngineClient, status: int
) -> None:
    engine.on("GET", "/info", error(status, "no"))
    assert [None, None] == [client.user_namespace(Deadline()) for _ in range(2)]
    assert 1 == len(engine.seen("GET", "/info"))


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, EngineUnavailableError),
        (401, EngineAccessDeniedError),
        *((status, EngineUnavailableError) for status in (429, 500, 502, 503, 504)),
    ],
)
def test_an_engine_that_fails_to_answer_is_an_error_and_asked_again(
    engine: FakeEngine, client: EngineClient, status: int, expected: type[Exception]
) -> None:
    engine.on("GET", "/info", error(status, "no"), Json(REMAPPED))
    with pytest.raises(expected):
        client.user_namespace(Deadline())
    assert UserNamespace(7, 9) == client.user_namespace(Deadline())


def test_a_socket_that_refuses_us_is_no_answer_either(
    engine: FakeEngine, client: EngineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test injects the denial, as root is denied nothing."""

    class DeniedSocket(socket.socket):
        def connect(self, _: Any) -> None:
            self.close()
            raise PermissionError(13, os.strerror(13))

    engine.on("GET", "/info", Json(REMAPPED))
    with monkeypatch.context() as denied:
        denied.setattr(socket, "socket", DeniedSocket)
        with pytest.raises(EngineAccessDeniedError):
            client.user_namespace(Deadline())
    assert UserNamespace(7, 9) == client.user_namespace(Deadline())
