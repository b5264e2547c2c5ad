"""The process's own metrics: all of them, also where ``/proc`` shows processes alone."""

from __future__ import annotations

import builtins
import os
import resource
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, ProcessCollector

from container_manager.observability.metrics import Metrics, ProcessMetrics


def told(registry: CollectorRegistry) -> dict[str, float]:
    """The value of each metric of the process."""
    samples = [sample for family in registry.collect() for sample in family.samples]
    return {sample.name: sample.value for sample in samples if sample.name.startswith("process_")}


def alone(collector: ProcessMetrics) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(collector)
    return told(registry)


@pytest.fixture
def processes_alone(tmp_path: Path) -> Path:
    """As ``/proc`` is with systemd's ``ProcSubset=pid``: without ``stat``."""
    (tmp_path / "self").symlink_to(f"/proc/{os.getpid()}")
    return tmp_path


def test_the_process_is_measured_where_proc_shows_processes_alone(processes_alone: Path) -> None:
    before = time.time()
    found = alone(ProcessMetrics(processes_alone))
    assert set(told(_of_the_library())) == set(found)
    assert 0 < found["process_cpu_seconds_total"] <= sum(os.times()[:2])
    assert before <= found["process_start_time_seconds"] <= time.time()
    assert 1 << 20 < found["process_resident_memory_bytes"] < found["process_virtual_memory_bytes"]
    assert 3 <= found["process_open_fds"] <= found["process_max_fds"]
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == found["process_max_fds"]


def test_without_proc_the_rest_is_told(tmp_path: Path) -> None:
    assert {"process_cpu_seconds_total", "process_start_time_seconds", "process_max_fds"} == set(
        alone(ProcessMetrics(tmp_path))
    )


def test_the_service_needs_nothing_of_proc_but_its_own_process(monkeypatch: pytest.MonkeyPatch) -> None:
    really_open = builtins.open

    def guarded(path: Any, *args: Any, **kwargs: Any) -> Any:
        if str(path) == "/proc/stat":
            raise FileNotFoundError(path)
        return really_open(path, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", guarded)
    found = told(Metrics().registry)
    monkeypatch.undo()
    assert set(told(_of_the_library())) == set(found)


def _of_the_library() -> CollectorRegistry:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry
