"""The process's own metrics, under the names that every Prometheus client gives them.

prometheus-client's own collector asks ``/proc/stat`` when the machine was started, and tells nothing at all where only
processes are shown in ``/proc``, as systemd's ``ProcSubset=pid`` has it.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class ProcessMetrics(Collector):
    """Of the process that makes it, at its start. What cannot be read is left out."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        """``proc``: where the kernel shows processes."""
        self._own = proc / "self"
        self._started = time.time()

    def collect(self) -> Iterator[Metric]:
        """The metrics, read just now."""
        times = os.times()
        yield CounterMetricFamily("process_cpu_seconds", "CPU time of the service.", times.user + times.system)
        yield GaugeMetricFamily("process_start_time_seconds", "When the service was started.", self._started)
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = float("inf") if limit == resource.RLIM_INFINITY else limit
        yield GaugeMetricFamily("process_max_fds", "How many descriptors the service may have.", most)
        with suppress(OSError):
            pages = (self._own / "statm").read_text().split()
            size, resident = (int(count) * resource.getpagesize() for count in pages[:2])
            yield GaugeMetricFamily("process_virtual_memory_bytes", "Address space of the service.", size)
            yield GaugeMetricFamily("process_resident_memory_bytes", "Memory of the service.", resident)
        with suppress(OSError):
            opened = sum(1 for _ in (self._own / "fd").iterdir())
            yield GaugeMetricFamily("process_open_fds", "Open descriptors.", opened)
