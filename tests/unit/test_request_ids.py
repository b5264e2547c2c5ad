"""The request id of a call."""

from __future__ import annotations

import pytest

from container_manager.observability.call import request_id_of


@pytest.mark.parametrize("given_id", ["a", "x" * 128, "!~", "6f0d4b43-9b60"])
def test_a_request_id_of_visible_ascii_is_taken(given_id: str) -> None:
    assert given_id == request_id_of([("user-agent", "x"), ("x-request-id", given_id)])


@pytest.mark.parametrize("given_id", ["", "x" * 129, "a b", "a\tb", "ä", "a\x7f", b"bytes"])
def test_any_other_request_id_is_replaced(given_id: str | bytes) -> None:
    made = {request_id_of([("x-request-id", given_id)]) for _ in range(100)}
    assert 100 == len(made)
    assert given_id not in made
