"""What an installation adds: the client little, each extra what it names, and an import only its own modules."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import metadata

import pytest

from tests.support.distributions import CLIENT_NEEDS, closure, needs

PROJECT = "botmaker-container-manager"
EXTRAS = {
    "server": {
        "aiohappyeyeballs", "aiohttp", "aiosignal", "attrs", "certifi", "charset-normalizer", "click", "docker",
        "frozenlist", "grpcio-health-checking", "grpcio-reflection", "idna", "multidict", "prometheus-client",
        "propcache", "regex", "requests", "structlog", "urllib3", "uvloop", "yarl",
    },
    "cli": {"click", "markdown-it-py", "mdurl", "pygments", "rich"},
    "age": {"pyrage"},
    "tracing": {
        "opentelemetry-api", "opentelemetry-exporter-otlp-common", "opentelemetry-exporter-otlp-proto-common",
        "opentelemetry-exporter-otlp-proto-grpc", "opentelemetry-proto", "opentelemetry-sdk",
        "opentelemetry-semantic-conventions",
    },
}  # fmt: skip
# Licences that allow use in any product and require only attribution.
LICENCES = re.compile(r"MIT|BSD|Apache|ISC|PSF|Python Software Foundation|MPL-2\.0|Mozilla Public License 2\.0")
# gRPC looks for its optional packages, and loads those that are installed.
CLIENT_MODULES = {"botmaker", "container_manager_client", "google", "grpc", "grpc_status", "typing_extensions"}
GRPC_OWN = {"grpc_health", "grpc_reflection", "cython_runtime"}
LOADED = """
import json, sys
before = set(sys.modules)
import container_manager_client
names = {name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
print(json.dumps([name for name in names if not name.startswith("_")]))
"""


def test_there_is_no_extra_that_is_not_looked_at() -> None:
    assert set(EXTRAS) == set(metadata.metadata(PROJECT).get_all("Provides-Extra") or ())


def test_the_base_install_brings_the_clients_needs_alone() -> None:
    assert CLIENT_NEEDS == set(closure(needs(PROJECT)))


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_adds_only_what_is_named(extra: str) -> None:
    assert EXTRAS[extra] == set(closure(needs(PROJECT, extra))) - CLIENT_NEEDS


def test_importing_the_client_loads_no_module_of_the_server() -> None:
    """All of the server's modules are installed here."""
    command = [sys.executable, "-I", "-c", LOADED]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout)) - GRPC_OWN
    assert {"container_manager_client", "grpc"} <= loaded <= CLIENT_MODULES


def licence(distribution: str) -> str:
    """A distribution's licence, from all metadata fields that state it, or else from its file."""
    told = metadata.metadata(distribution)
    classified = [each for each in told.get_all("Classifier") or () if each.startswith("License ::")]
    stated = " ".join([told.get("License-Expression") or (told.get("License") or "")[:200], *classified])
    files = [each for each in metadata.files(distribution) or () if each.parent.name == "licenses"]
    return stated or " ".join(each.read_text()[:200] for each in files)


def test_whatever_the_product_brings_along_has_a_permissive_licence() -> None:
    everything = closure([*needs(PROJECT), *(each for extra in EXTRAS for each in needs(PROJECT, extra))])
    unclear = {name: licence(name) for name in everything if not LICENCES.search(licence(name))}
    assert unclear == {}
    assert not [name for name in everything if re.search(r"\bA?GPL|\bLGPL", licence(name))]
