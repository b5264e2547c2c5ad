"""The client's types, as programs outside this repository see them."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dev.node_client import ensure_node

TOP = Path(__file__).parents[2]
PROGRAM = TOP / "tests" / "support" / "typed_client.py"
STUBS = sorted((TOP / "client" / "botmaker" / "container" / "v1").glob("*_pb2_grpc.pyi"))
# Each of these lines has an error.
WRONG = """
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerAsyncStub, ContainerManagerStub
from container_manager_client import connect, connect_aio

stub: ContainerManagerAsyncStub = ContainerManagerStub(connect("unix:///s"))
async def main() -> None:
    (await ContainerManagerStub(connect_aio("unix:///s")).StopContainer(pb.StopContainerRequest())).containers
    ContainerManagerStub(connect_aio("unix:///s")).NoSuchCall(pb.StopContainerRequest())
    await ContainerManagerStub(connect("unix:///s")).StopContainer(pb.StopContainerRequest(bot_id=1))
"""
WRONG_LINES = {6, 8, 9, 10}


def mypy(directory: Path) -> subprocess.CompletedProcess[str]:
    """Mypy with no configuration of ours."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-pretty", directory]
    return subprocess.run(command, capture_output=True, text=True, timeout=110, check=False, cwd=TOP)


def pyright(directory: Path) -> subprocess.CompletedProcess[str]:
    """Pyright in its strict mode."""
    config = directory / "pyrightconfig.json"
    config.write_text(json.dumps({"typeCheckingMode": "strict"}))
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--project", config]
    environment = ensure_node().environment
    return subprocess.run(
        command, capture_output=True, text=True, timeout=110, check=False, cwd=directory, env=environment
    )


@pytest.mark.timeout(120)
@pytest.mark.parametrize("check", [mypy, pyright])
def test_each_checker_accepts_the_program_and_finds_every_fault(
    check: Callable[[Path], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "right.py").write_text(PROGRAM.read_text())
    (tmp_path / "wrong.py").write_text(WRONG)
    found = check(tmp_path).stdout
    lines = [line for line in found.splitlines() if "error" in line and ".py:" in line]
    assert [] == [line for line in lines if "right.py" in line]
    assert WRONG_LINES == {int(line.split("wrong.py:")[1].split(":")[0]) for line in lines}, found


@pytest.mark.parametrize("stub", STUBS, ids=lambda path: path.stem)
def test_every_class_that_a_type_stub_declares_can_be_imported(stub: Path) -> None:
    """A program that names the type of an async stub runs."""
    module = importlib.import_module(f"botmaker.container.v1.{stub.stem}")
    declared = {node.name for node in ast.parse(stub.read_text()).body if isinstance(node, ast.ClassDef)}
    public = {name for name in declared if not name.startswith("_")}
    assert len(public) == 3
    assert set() == public - set(vars(module))
    for name in public:
        if name.endswith("AsyncStub"):
            assert getattr(module, name) is getattr(module, name.replace("AsyncStub", "Stub"))
