"""Prometheus and promtool from Debian's package, unpacked and not installed: installing would start a service."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.debian import MissingEngine, install, unpacked
from tests.docs.documents import blocks
from tests.support.waiting import wait_until

CHECKOUT = Path(__file__).parents[2]
RULES = CHECKOUT / "deploy" / "prometheus" / "rules.yml"


def prometheus_program(name: str) -> str:
    """The path of ``prometheus`` or ``promtool``. Skips the test where there is none, and never in CI."""
    if found := shutil.which(name):
        return found
    try:
        return str(unpacked("prometheus", name, CHECKOUT / ".dev" / "packages"))
    except (LookupError, FileNotFoundError) as exc:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no {name} here: {exc}")


class Prometheus:
    """One that runs, as a client of its HTTP API sees it."""

    def __init__(self, url: str) -> None:
        self._url = url

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The present result. Raises :class:`AssertionError` for an expression that Prometheus refuses."""
        result: list[dict[str, Any]] = self._get(f"query?{urllib.parse.urlencode({'query': expression})}")["result"]
        return result

    def time(self) -> float:
        """Its present time, in seconds."""
        return float(self._get("query?query=time()")["result"][1])

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        return {each["labels"]["alertname"] for each in self._get("alerts")["alerts"] if each["state"] == "firing"}

    def unhealthy_rules(self) -> list[dict[str, Any]]:
        """The rules whose last evaluation did not succeed."""
        groups = self._get("rules")["groups"]
        return [rule for group in groups for rule in group["rules"] if rule["health"] != "ok"]

    def _get(self, path: str) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"{self._url}/api/v1/{path}", timeout=30) as answer:
                document = json.load(answer)
        except urllib.error.HTTPError as exc:
            raise AssertionError(f"{path}: {exc.read().decode()}") from exc
        assert document["status"] == "success", document
        data: dict[str, Any] = document["data"]
        return data


@contextlib.contextmanager
def running_prometheus(directory: Path, target: str) -> Iterator[Prometheus]:
    """A Prometheus with the rules of ``deploy/``, which scrapes ``target`` and evaluates them every second."""
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "container-manager", "static_configs": [{"targets": [target]}]}],
    }
    (directory / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        prometheus_program("prometheus"),
        f"--config.file={directory}/prometheus.yml",
        f"--storage.tsdb.path={directory}/data",
        f"--web.listen-address={address}",
    ]
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    prometheus = Prometheus(f"http://{address}")
    try:
        wait_until(lambda: process.poll() is not None or _answers(address), "Prometheus answers")
        assert process.poll() is None, (directory / "prometheus.log").read_text()
        yield prometheus
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def metrics_relay(metrics: Path) -> Iterator[str]:
    """The relay of ``deploy/README.md``, from this unix socket; its address."""
    try:
        install(["socat"])
    except MissingEngine as exc:
        pytest.skip(str(exc))
    [block] = [block.text for block in blocks("deploy/README.md") if "UNIX-CONNECT" in block.text]
    look, relay = block.splitlines()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    documented = {"/run/botmaker/metrics.sock": str(metrics), "TCP-LISTEN:9464": f"TCP-LISTEN:{port}"}
    for here, there in documented.items():
        look, relay = look.replace(here, there), relay.replace(here, there)
    shown = subprocess.run(look.split(), stdout=subprocess.PIPE, check=True).stdout
    assert b"\ncontainer_manager_build_info{" in shown
    process = subprocess.Popen(relay.split())
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
