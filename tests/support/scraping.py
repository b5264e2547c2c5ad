"""Reads the service's metrics as Prometheus does."""

from __future__ import annotations

import http.client
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import parser


def scrape(url: str) -> str:
    """The metrics that it serves, in the text format."""
    status, _, body = ask(url)
    assert 200 == status
    return body


def ask(url: str, method: str = "GET", path: str | None = None, **headers: str) -> tuple[int, dict[str, str], str]:
    """Send a request; returns the status, the headers with names in lower case, and the body."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    try:
        connection.request(method, path or parts.path, headers=headers)
        answer = connection.getresponse()
        body = answer.read().decode()
        return answer.status, {key.lower(): value for key, value in answer.getheaders()}, body
    finally:
        connection.close()


def value(text: str, name: str, **labels: str) -> float:
    """The sum of all samples with this name and these labels."""
    return sum(
        sample.value for sample in samples(text) if sample.name == name and labels.items() <= sample.labels.items()
    )


def samples(text: str) -> list[Any]:
    """All of them."""
    return [sample for family in parser.text_string_to_metric_families(text) for sample in family.samples]


def ended(text: str, method: str, code: str) -> float:
    """How many calls of the method ended with this code."""
    return value(text, "container_manager_rpcs_total", method=method, code=code)
