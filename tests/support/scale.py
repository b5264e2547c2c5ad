"""One test in two sizes: short for every run, complete for `make chaos`."""

from __future__ import annotations

import pytest


def sizes(name: str, *, short: int, complete: int) -> pytest.MarkDecorator:
    """Parametrizes ``name``; the complete size is marked slow and may take half an hour."""
    slow = (pytest.mark.slow, pytest.mark.timeout(1800))
    return pytest.mark.parametrize(
        name, [pytest.param(short, id="short"), pytest.param(complete, id="complete", marks=slow)]
    )
