"""The engine's containers as the view reads them."""

from __future__ import annotations

from typing import Any

import pytest

from container_manager.backends.docker.container_source import INSPECT_TIMEOUT_SECONDS, ContainerSource
from container_manager.backends.docker.status import status_from_inspect, status_from_row
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import ContainerManagerError, EngineAccessDeniedError, EngineUnavailableError
from container_manager.model import owned_bot
from tests.unit.documents import BOT, ID, LABELS, NAME, OTHER_BOT, OTHER_ID, inspected
from tests.unit.scripted_engine import ScriptedEngine, at_once

ROW = {"Id": ID, "Names": [f"/{NAME}"], "Labels": LABELS, "State": "running", "Created": 5}


def read(answer: Any, method: str, *arguments: str) -> Any:
    """The result of one method for this answer."""
    return at_once(getattr(ContainerSource(ScriptedEngine(answer)), method)(*arguments))


@pytest.mark.parametrize("method", ["list", "inspect", "inspect_bot", "subscribe"])
@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (EngineRejectedError(500, "boom"), EngineUnavailableError),
        (EngineRejectedError(400, "bad"), ContainerManagerError),
        (EngineUnavailableError("away"), EngineUnavailableError),
        (EngineAccessDeniedError("no"), EngineAccessDeniedError),
    ],
)
def test_every_error_is_the_domains(method: str, problem: Exception, expected: type[Exception]) -> None:
    async def ask() -> None:
        source = ContainerSource(ScriptedEngine(problem))
        if method == "subscribe":
            async with source.subscribe():
                pass
        else:
            await getattr(source, method)("" if method == "list" else BOT)

    with pytest.raises(expected) as raised:
        at_once(ask())
    assert expected is type(raised.value)


@pytest.mark.parametrize(("container_id", "ids"), [("", {}), (ID, {"id": [ID]})])
def test_the_list_is_of_all_managed_containers_or_of_one(container_id: str, ids: dict[str, Any]) -> None:
    engine = ScriptedEngine([ROW])
    assert [status_from_row(ROW)] == [row.status for row in at_once(ContainerSource(engine).list(container_id))]
    filters = {"label": ["botmaker.managed=true"], **ids}
    assert [("/containers/json", {"all": "1", "filters": filters})] == engine.requests


@pytest.mark.parametrize(("method", "key", "path"), [("inspect", ID, ID), ("inspect_bot", BOT, NAME)])
def test_a_container_is_inspected_by_its_id_or_by_its_bots_name_and_not_for_long(
    method: str, key: str, path: str
) -> None:
    engine = ScriptedEngine(inspected())
    found = at_once(getattr(ContainerSource(engine), method)(key))
    assert (status_from_inspect(inspected()), BOT) == (found, owned_bot(found))
    assert [f"/containers/{path}/json"] == [path for path, _ in engine.requests]
    assert [INSPECT_TIMEOUT_SECONDS] == engine.timeouts


@pytest.mark.parametrize("method", ["inspect", "inspect_bot"])
@pytest.mark.parametrize(
    "answer",
    [
        EngineRejectedError(404, f"No such container: {ID}"),
        inspected(labels=None),
        inspected(labels={"botmaker.bot-id": BOT}),
        inspected(labels={**LABELS, "botmaker.managed": "yes"}),
    ],
    ids=["none", "no labels", "not managed", "another value"],
)
def test_a_container_that_is_gone_or_not_managed_is_none(method: str, answer: Any) -> None:
    assert at_once(getattr(ContainerSource(ScriptedEngine(answer, rows=[])), method)(BOT)) is None


@pytest.mark.parametrize("labels", [{**LABELS, "botmaker.bot-id": OTHER_BOT}, {"botmaker.managed": "true"}])
def test_a_container_with_the_bots_name_and_anothers_label_is_not_the_bots(labels: dict[str, str]) -> None:
    document = inspected(labels=labels)
    assert at_once(ContainerSource(ScriptedEngine(document, rows=[])).inspect_bot(BOT)) is None
    found = read(document, "inspect", ID)
    assert (ID, None) == (found.container_id, owned_bot(found))


def test_a_bots_former_container_under_another_name_is_owned_by_nobody() -> None:
    assert owned_bot(read(inspected(name="other"), "inspect", ID)) is None


@pytest.mark.parametrize("named", [EngineRejectedError(404, "none"), inspected(labels={})], ids=["absent", "foreign"])
def test_a_bot_without_a_container_of_its_name_has_the_newest_with_its_labels(named: Any) -> None:
    newer = inspected(container_id=OTHER_ID, name="newer", Created="2026-11-20T10:00:00.123456790Z")
    unmanaged = inspected(container_id="u" * 64, labels={"botmaker.bot-id": BOT}, Created="2026-11-21T00:00:00Z")
    documents = {NAME: named, OTHER_ID: newer, ID: inspected(name="older"), "u" * 64: unmanaged}
    engine = ScriptedEngine(
        EngineRejectedError(404, "gone"), rows=[{"Id": key} for key in (*documents, "x" * 64)], documents=documents
    )
    found = at_once(ContainerSource(engine).inspect_bot(BOT))
    assert (OTHER_ID, "newer") == (found.container_id, found.name)
    assert {"all": "1", "filters": {"label": [f"botmaker.bot-id={BOT}"]}} == dict(engine.requests)["/containers/json"]
