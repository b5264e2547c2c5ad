"""The engine's events as the view hears them: of which container, and what is not understood."""

from __future__ import annotations

import json
import logging
import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from container_manager.backend import Notice
from container_manager.backends.docker.container_source import ContainerSource
from container_manager.errors import EngineUnavailableError
from container_manager.model import ExitReason
from tests.unit.documents import FINISHED, FINISHED_S, ID, NAME, exited, inspected, running
from tests.unit.scripted_engine import ScriptedEngine, at_once

OURS = {"botmaker.managed": "true", "image": "img", "name": NAME}
TIME_NS = 1_795_750_000_000_000_001


def event(action: str = "start", kind: str = "container", **actor: Any) -> dict[str, Any]:
    """An event in the engine's format."""
    return {"Type": kind, "Action": action, "Actor": {"ID": ID, "Attributes": OURS, **actor}, "timeNano": TIME_NS}


def line(told: object) -> bytes:
    return json.dumps(told).encode() + b"\n"


def heard(*chunks: bytes, source: ContainerSource | None = None) -> list[Notice]:
    """All notices until the end of the engine's stream."""
    engine = ScriptedEngine(chunks=[chunk for chunk in chunks if chunk])
    listening = source or ContainerSource(engine)
    listening._engine = engine
    notices = []

    async def listen() -> None:
        async with listening.subscribe() as told:
            async for notice in told:
                notices.append(notice)  # noqa: PERF401 - what came before the end is wanted

    with pytest.raises(EngineUnavailableError, match="ended its event stream"):
        at_once(listen())
    return notices


@pytest.mark.parametrize("action", ["destroy", "remove"])
def test_a_removal_is_told_in_dockers_word_or_in_podmans(action: str) -> None:
    assert [Notice(ID, gone=True, managed=True, time_ns=TIME_NS)] == heard(line(event(action)))


@pytest.mark.parametrize("action", ["create", "start", "die", "died", "rename", "health_status: healthy", "unheard-of"])
def test_any_other_event_of_a_container_is_a_reason_to_look(action: str) -> None:
    notice = Notice(
        ID, gone=False, managed=True, time_ns=TIME_NS, created=action == "create", renamed=action == "rename"
    )
    assert [notice] == heard(line(event(action)))


@pytest.mark.parametrize("attributes", [{}, None, [], {"botmaker.managed": "false"}, {"botmaker.managed": True}])
@pytest.mark.parametrize("action", ["start", "remove"])
def test_a_container_whose_event_does_not_say_that_it_is_ours_may_still_be(action: str, attributes: Any) -> None:
    assert [Notice(ID, action == "remove", managed=False, time_ns=TIME_NS)] == heard(
        line(event(action, Attributes=attributes))
    )


def ended(*events: dict[str, Any]) -> Any:
    """The last exit of a container that runs again, after these events."""
    source = ContainerSource(ScriptedEngine())
    heard(*map(line, events), source=source)
    source._engine = ScriptedEngine(inspected(running(FinishedAt=FINISHED, StartedAt="2026-11-20T10:01:01Z")))
    status = at_once(source.inspect(ID))
    return status.last_exit and (status.last_exit.exit_code, status.last_exit.exit_reason)


DIE = {**event("die", Attributes={**OURS, "exitCode": "137"}), "timeNano": FINISHED_S * 10**9 + 5}
OOM = {**event("oom"), "timeNano": FINISHED_S * 10**9 - 5}


@pytest.mark.parametrize(
    ("events", "last_exit"),
    [
        ([DIE], (137, ExitReason.KILLED)),
        ([OOM, DIE], (137, ExitReason.OOM_KILLED)),
        ([OOM, DIE, event("start")], (137, ExitReason.OOM_KILLED)),
        ([OOM, event("destroy"), DIE], (137, ExitReason.KILLED)),
        ([DIE, event("destroy")], None),
        ([{**DIE, "Actor": {"ID": ID, "Attributes": {"exitCode": "137"}}}], None),
        ([event("die", Attributes=OURS)], None),
        ([], None),
    ],
)
def test_the_end_of_a_run_is_known_from_the_events_of_managed_containers(
    events: list[dict[str, Any]], last_exit: Any
) -> None:
    assert last_exit == ended(*events)


@pytest.mark.parametrize(("later", "reason"), [(-25, ExitReason.KILLED), (-24.998, ExitReason.OOM_KILLED)])
def test_an_end_long_after_the_subscription_is_judged_by_its_events_and_an_earlier_one_by_the_engines_mark(
    monkeypatch: pytest.MonkeyPatch, later: float, reason: ExitReason
) -> None:
    source = ContainerSource(ScriptedEngine())
    monkeypatch.setattr(time, "time", lambda: FINISHED_S + later)
    heard(line(DIE), source=source)
    source._engine = ScriptedEngine(inspected(exited(137, OOMKilled=True)))
    status = at_once(source.inspect(ID))
    assert status is not None
    assert reason is status.exit_reason


@pytest.mark.parametrize("time", [None, "now", 1.5])
def test_an_event_without_its_time_counts_all_the_same(time: Any) -> None:
    assert [Notice(ID, gone=False, managed=True, time_ns=0)] == heard(line({**event(), "timeNano": time}))


@pytest.mark.parametrize("action", ["connect", "disconnect"])
def test_a_networks_event_is_about_the_container_that_it_names(action: str) -> None:
    told = event(action, "network", ID="n" * 64, Attributes={"container": ID, "name": "bridge"})
    assert [Notice(ID, gone=False, managed=False, time_ns=TIME_NS)] == heard(line(told))


@pytest.mark.parametrize("attributes", [{}, {"container": ""}, {"container": None}, {"container": 7}, None])
def test_a_networks_event_that_names_no_container_is_about_none(
    caplog: pytest.LogCaptureFixture, attributes: Any
) -> None:
    assert [] == heard(line(event("remove", "network", Attributes=attributes)))
    assert [] == caplog.records


STREAM = b"".join(map(line, [event(), event("destroy"), event("connect", "network", Attributes={"container": ID})]))


@settings(max_examples=50)
@given(st.lists(st.integers(0, len(STREAM)), max_size=6))
def test_events_are_put_together_from_whatever_pieces_they_come_in(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[begin:end] for begin, end in pairwise(edges)]
    assert heard(STREAM) == heard(*pieces)
    assert [False, True, False] == [notice.gone for notice in heard(*pieces)]


def test_empty_lines_are_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert 1 == len(heard(b"\n\r\n" + line(event()) + b"  \n"))
    assert [] == caplog.records


NO_EVENTS = {
    "no JSON": b"{nonsense}",
    "cut": line(event())[:40],
    "no text": b"\xff\xfe",
    "deep": b"[" * 100_000,
    "no object": b"[]",
    "null": b"null",
    "a number": b"7",
    "no type": line({**event(), "Type": None}),
    "unknown type": line(event(kind="pod")),
    "a type that is no text": line({**event(), "Type": 7}),
    "no action": line({**event(), "Action": None}),
    "no actor": line({**event(), "Actor": None}),
    "an actor that is no object": line({**event(), "Actor": [ID]}),
    "no id": line({**event(), "Actor": {"Attributes": OURS}}),
    "an empty id": line(event(ID="")),
    "an id that is no text": line(event(ID=[7])),
}


@pytest.mark.parametrize("bad", NO_EVENTS.values(), ids=NO_EVENTS)
def test_an_event_that_is_not_understood_is_skipped_with_one_warning(
    caplog: pytest.LogCaptureFixture, bad: bytes
) -> None:
    source = ContainerSource(ScriptedEngine())
    for _ in range(2):
        assert 2 == len(heard(line(event()), bad.strip() + b"\n", bad.strip() + b"\n", line(event()), source=source))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "not understood" in record.getMessage()
    assert len(record.getMessage()) < 400


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["container", "network", ID]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["Type", "Action", "Actor", "ID", "Attributes", "container"]), inner, max_size=6
        )
    ),
    max_leaves=6,
)


@settings(max_examples=40)
@given(
    st.lists(ANY_JSON.map(line) | st.binary(max_size=20).map(lambda data: data.replace(b"\n", b"") + b"\n"), max_size=4)
)
def test_whatever_comes_the_next_event_is_heard(lines: list[bytes]) -> None:
    *before, last = heard(*lines, line(event("destroy")))
    assert Notice(ID, gone=True, managed=True, time_ns=TIME_NS) == last
    assert all(isinstance(notice.container_id, str) and notice.container_id for notice in before)


def test_what_is_asked_for_are_the_events_that_change_containers_from_a_little_before_now_on() -> None:
    engine = ScriptedEngine()

    async def subscribe() -> None:
        async with ContainerSource(engine).subscribe():
            assert 1 == engine.open

    at_once(subscribe())
    ((path, params),) = engine.requests
    assert ("/events", ["container", "network"], 0) == (path, params["filters"]["type"], engine.open)
    assert {"create", "start", "die", "died", "destroy", "remove", "connect"} <= set(params["filters"]["event"])
    assert 4 < time.time() - float(params["since"]) < 60
