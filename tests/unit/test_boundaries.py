"""The rules for imports, and the limit for the length of a module."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import container_manager_client

TOP = Path(__file__).parents[2]
SERVER_ROOT = TOP / "server" / "container_manager"
SERVER = sorted(SERVER_ROOT.rglob("*.py"))
CLIENT = sorted((TOP / "client" / "container_manager_client").rglob("*.py"))
BOTCTL = sorted((TOP / "client" / "botctl").rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """The top-level package of every import in a module, including late ones."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").partition(".")[0]


def test_there_are_modules_to_look_at() -> None:
    assert len(SERVER) > 20
    assert len(CLIENT) > 3
    assert len(BOTCTL) > 20


def test_only_the_clients_of_an_engine_import_the_docker_sdk() -> None:
    importers = [path.relative_to(TOP).as_posix() for path in SERVER if "docker" in imported(path)]
    assert [f"server/container_manager/engine/{name}.py" for name in ("client", "sdk_client")] == importers


@pytest.mark.parametrize("path", CLIENT, ids=lambda path: path.name)
def test_the_client_knows_neither_docker_nor_the_server(path: Path) -> None:
    assert set() == {"docker", "container_manager", "click", "structlog"} & set(imported(path))


def test_botctl_knows_the_client_and_its_own_extra_alone() -> None:
    known = {
        "botctl",
        "container_manager_client",
        "botmaker",
        "grpc",
        "google",
        "click",
        "rich",
        *sys.stdlib_module_names,
    }
    for path in BOTCTL:
        assert set() == set(imported(path)) - known, path


def test_only_one_module_of_botctl_makes_a_channel() -> None:
    importers = [path.name for path in BOTCTL if re.search(r"import .*\bconnect\b", path.read_text())]
    assert ["connection.py"] == importers


def test_only_the_async_client_and_the_endpoint_for_metrics_import_aiohttp() -> None:
    importers = [path.relative_to(SERVER_ROOT).as_posix() for path in SERVER if "aiohttp" in imported(path)]
    assert ["engine/async_client.py", "observability/metrics_endpoint.py"] == importers


def test_metrics_and_traces_are_loaded_by_their_own_modules_alone() -> None:
    """Features that are off cost no memory."""
    importers = {
        path.relative_to(SERVER_ROOT).as_posix(): {"prometheus_client", "opentelemetry"} & set(imported(path))
        for path in SERVER
    }
    assert {
        "observability/metrics.py": {"prometheus_client"},
        "observability/metrics_endpoint.py": {"prometheus_client"},
        "observability/state_collector.py": {"prometheus_client"},
        "observability/tracing.py": {"opentelemetry"},
    } == {path: found for path, found in importers.items() if found}


# The packages that each package of the server may import, besides itself and the top-level modules, which import only
# each other. A package that is not listed may import nothing of the server.
PACKAGES = {
    "": set(),
    "engine": set(),
    "sockets": set(),
    "provisioning": set(),
    "backends": {"engine", "provisioning"},
    "scheduling": set(),
    "view": set(),
    "logs": set(),
    "stats": set(),
    "observability": {"sockets", "scheduling", "view", "stats"},
    "maintenance": {"provisioning", "scheduling", "view", "logs"},
    "rpc": {"sockets", "provisioning", "scheduling", "view", "logs", "stats", "observability", "maintenance"},
    "doctor": {"sockets", "rpc", "observability", "engine", "backends", "provisioning", "maintenance"},
    "cli": {"rpc", "observability", "doctor", "backends", "engine", "maintenance"},
}
# Only these packages use gRPC.
KNOW_GRPC = ("rpc", "observability", "doctor", "cli")


def package(module: str) -> str:
    """The package of a module of the server; ``""`` for a top-level module."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (SERVER_ROOT / parts[1]).is_dir() else ""


def server_imports(path: Path) -> Iterator[str]:
    """The full names of the server's modules that a module imports, including late imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        assert not getattr(node, "level", 0), f"{path} has a relative import"
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "container_manager":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "container_manager")


def test_every_import_of_the_server_points_downward() -> None:
    """cli → rpc → provisioning, scheduling, view, logs, stats → backend.py ← backends → engine."""
    upward = [
        f"{path.relative_to(SERVER_ROOT).as_posix()} imports {module}"
        for path in SERVER
        if path.name != "__main__.py"
        for module in server_imports(path)
        if package(module) not in {own_package(path), "", *PACKAGES[own_package(path)]}
    ]
    assert [] == upward


def test_no_backend_imports_another() -> None:
    backends = [path for path in (SERVER_ROOT / "backends").iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert len(backends) > 1
    for backend in backends:
        for path in backend.rglob("*.py"):
            others = {f"container_manager.backends.{other.name}." for other in backends if other != backend}
            assert [] == [module for module in server_imports(path) if module.startswith(tuple(others))], path


def own_package(path: Path) -> str:
    """The package of a file of the server."""
    parts = path.relative_to(SERVER_ROOT).parts
    return parts[0] if len(parts) > 1 else ""


def test_the_rule_names_every_package_once_and_has_no_circle() -> None:
    assert {own_package(path) for path in SERVER} == set(PACKAGES)
    below: set[str] = set()
    for name, allowed in PACKAGES.items():
        assert allowed <= below, name
        below.add(name)


@pytest.mark.parametrize("path", SERVER, ids=lambda path: path.relative_to(SERVER_ROOT).as_posix())
def test_only_the_rpc_packages_know_grpc(path: Path) -> None:
    if own_package(path) not in KNOW_GRPC:
        assert set() == {"grpc", "google", "botmaker", "grpc_health", "grpc_reflection"} & set(imported(path))


@pytest.mark.parametrize("path", [*SERVER, *CLIENT, *BOTCTL], ids=lambda path: path.relative_to(TOP).as_posix())
def test_no_module_is_longer_than_300_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize("path", SERVER, ids=lambda path: path.relative_to(SERVER_ROOT).as_posix())
def test_no_log_line_has_the_text_of_an_error_of_the_engine(path: Path) -> None:
    """It may have a caller's words in it. Those of the system, and of the operator's own files, may be there."""
    caught = {"EngineRejectedError", "ContainerManagerError", "Exception", "BaseException", "LookupError", "ValueError"}
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ExceptHandler) or node.name is None or not caught & _names(node.type):
            continue
        for call in ast.walk(node):
            if (
                isinstance(call, ast.Call)
                and isinstance(call.func, ast.Attribute)
                and _names(call.func) & {"_log", "log"}
            ):
                given = [*call.args, *(each.value for each in call.keywords if each.arg != "exc_info")]
                assert [] == [ast.unparse(each) for each in given if _tells(each, node.name)], f"{path}:{call.lineno}"


def _names(node: ast.AST | None) -> set[str]:
    return set() if node is None else {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _tells(node: ast.expr, error: str) -> bool:
    """Whether an argument is an error, or its text, and not only its reason or its type."""
    if isinstance(node, ast.Call) and _names(node.func) & {"reason_of", "type"}:
        return False
    if isinstance(node, ast.Attribute):
        return node.attr not in {"reason", "strerror", "__name__"} and error in _names(node)
    return error in _names(node)


def test_the_clients_public_names() -> None:
    expected = ["ErrorInfo", "TlsFiles", "__version__", "connect", "connect_aio", "error_info"]
    assert expected == sorted(container_manager_client.__all__)
    assert all(getattr(container_manager_client, name).__doc__ for name in container_manager_client.__all__)
