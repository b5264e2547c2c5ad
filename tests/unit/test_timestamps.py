"""The engine's timestamps."""

from __future__ import annotations

import pytest

from container_manager.engine.timestamps import time_ns

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01Z", SECOND),
        ("1970-01-01T00:00:01.5Z", SECOND + SECOND // 2),
        ("1970-01-01T01:00:01.000000002+01:00", SECOND + 2),
        ("1969-12-31T19:30:01.0000000029-04:30", SECOND + 2),
        ("9999-12-31T23:59:59Z", 253_402_300_799 * SECOND),
    ],
)
def test_a_time_counts_from_the_epoch_in_any_zone(text: str, expected: int) -> None:
    assert expected == time_ns(text)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "yesterday",
        "0001-01-01T00:00:00Z",
        "0001-01-01T05:30:00+05:30",
        # The same moment as Go writes it in New York.
        "0000-12-31T19:03:58-04:56",
        "9999-12-31T23:59:59-01:00",
        "2026-13-01T00:00:00Z",
        "2026-01-01T00:00:60Z",
        "2026-01-01T00:00:00+24:00",
    ],
)
def test_what_is_no_time_is_none(text: str | None) -> None:
    assert time_ns(text) is None
