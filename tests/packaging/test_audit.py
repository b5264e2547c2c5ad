"""An audit that could not run never counts as one that found nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dev import audit

CLEAN = {"name": "a", "version": "1", "vulns": []}
UNKNOWN = {"name": "b", "skip_reason": "b (1) not found"}
VULNERABLE = {"name": "c", "version": "1", "vulns": [{"id": "X-1", "aliases": ["Y-1"], "fix_versions": ["2"]}]}


def answers(*dependencies: dict[str, Any]) -> tuple[str, str]:
    """The output of pip-audit."""
    return json.dumps({"dependencies": dependencies, "fixes": []}), "No known vulnerabilities found"


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (answers(CLEAN), audit.CLEAN),
        (answers(CLEAN, VULNERABLE), audit.VULNERABLE),
        (answers(UNKNOWN), audit.NOT_DONE),
        (answers(CLEAN, UNKNOWN), audit.NOT_DONE),
        (answers(VULNERABLE, UNKNOWN), audit.VULNERABLE),
        (answers(), audit.NOT_DONE),
        (("", "Traceback\nConnectionError: no network"), audit.NOT_DONE),
        (("{}", ""), audit.NOT_DONE),
        (("[]", ""), audit.NOT_DONE),
    ],
    ids=["clean", "vulnerable", "unknown", "partly unknown", "vulnerable and unknown", "empty", "crash", "{}", "[]"],
)
def test_the_exit_code_tells_what_was_found(
    answer: tuple[str, str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status == audit.audit(["x.txt"], lambda *_: answer)
    complete = audit.read(*answer).complete
    assert complete is ("THE AUDIT DID NOT HAPPEN" not in capsys.readouterr().out)


def test_the_second_service_is_asked_where_the_first_knows_nothing() -> None:
    asked = []

    def ask(lock: str, service: str) -> tuple[str, str]:
        asked.append((lock, service))
        return answers(UNKNOWN if service == audit.SERVICES[0] else CLEAN)

    assert audit.CLEAN == audit.audit(["x.txt", "y.txt"], ask)
    assert [(lock, service) for lock in ("x.txt", "y.txt") for service in audit.SERVICES] == asked


def test_nothing_further_is_asked_once_the_data_is_not_to_be_had() -> None:
    asked = []

    def ask(lock: str, service: str) -> tuple[str, str]:
        asked.append(lock)
        return answers(UNKNOWN)

    assert audit.NOT_DONE == audit.audit(["x.txt", "y.txt"], ask)
    assert {"x.txt"} == set(asked)


def test_an_accepted_vulnerability_is_none_by_any_of_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "ACCEPTED", {"Y-1": "not reachable"})
    assert audit.CLEAN == audit.audit(["x.txt"], lambda *_: answers(VULNERABLE))


def test_every_lock_is_audited_but_the_lowest() -> None:
    locks = {path.name for path in (audit.CHECKOUT / "requirements").glob("*.txt")}
    assert locks - {"lowest.txt"} == set(audit.LOCKS)
