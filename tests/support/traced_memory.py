"""Memory that the service's code holds, whatever else goes on in the process of the tests."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SERVICE = tracemalloc.Filter(inclusive=True, filename_pattern="*/container_manager/*")


@contextmanager
def traced() -> Iterator[Callable[[], int]]:
    """Yields what tells how many bytes the service's code has allocated since then and still holds."""
    tracemalloc.start()
    try:
        yield _held
    finally:
        tracemalloc.stop()


def _held() -> int:
    gc.collect()
    held = tracemalloc.take_snapshot().filter_traces([_SERVICE])
    return sum(statistic.size for statistic in held.statistics("filename"))
