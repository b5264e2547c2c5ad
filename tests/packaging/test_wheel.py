"""The built wheel, outside the source tree: its base install is the client, and needs no Docker package."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

import container_manager
import container_manager_client
import hatch_build
from tests.support.distributions import CLIENT_NEEDS

CHECKOUT = Path(__file__).parents[2]
USE = """
import importlib.util
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager_client import connect, error_info
import grpc
with connect({target!r}) as channel:
    stub = ContainerManagerStub(channel)
    stub.ListManagedContainers(pb.ListManagedContainersRequest())
    try:
        stub.StartContainer(pb.StartContainerRequest(bot_id="no bot"))
    except grpc.RpcError as exc:
        print(error_info(exc).reason)
print([name for name in ("docker", "requests", "click", "structlog") if importlib.util.find_spec(name)])
"""
INSTALLED = """
from importlib import metadata
print(*(each.name for each in metadata.distributions()))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as published."""
    directory = tmp_path_factory.mktemp("dist")
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(directory), str(CHECKOUT))
    run("env", "--unset", "SOURCE_URL", *build)
    return next(directory.glob("*.whl"))


def run(*command: str) -> str:
    """The output of a command that must succeed, run without the settings of this environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE"))}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def requirements(wheel: Path) -> list[str]:
    """The requirements of the base install."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith("METADATA"))
        lines = archive.read(metadata).decode().splitlines()
    found = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    return [requirement for requirement in found if "extra ==" not in requirement]


def test_the_base_install_asks_for_the_clients_needs_alone(wheel: Path) -> None:
    names = {re.split(r"[<>=]", requirement)[0] for requirement in requirements(wheel)}
    assert names == {"googleapis-common-protos", "grpcio", "grpcio-status", "protobuf"}


def test_the_wheel_holds_stubs_with_types_and_no_test(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for module in ("container_manager_pb2", "container_manager_pb2_grpc"):
        assert {f"botmaker/container/v1/{module}.py", f"botmaker/container/v1/{module}.pyi"} <= names
    for package in ("botmaker/container/v1", "container_manager_client", "container_manager", "botctl"):
        assert f"{package}/py.typed" in names
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {
        "botctl",
        "botmaker",
        "container_manager",
        "container_manager_client",
    }


def test_the_metadata_name_the_licence_and_hold_its_text(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    assert {"License-Expression: MIT", "License-File: LICENSE"} <= set(metadata.splitlines())
    assert "\nProject-URL: " in metadata
    assert "\nDescription-Content-Type: text/markdown" in metadata
    assert "](" not in metadata.partition("\n\n")[2], "a link without an address"
    assert 1 == sum(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_package_index_accepts_the_description(wheel: Path) -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", str(wheel))


@pytest.mark.parametrize("source_url", ["", "https://forge.example/owner/name"])
def test_the_links_of_the_description_lead_out_of_the_package(source_url: str) -> None:
    """Without an address, there is none to link to, and the paths stay as text."""
    text = hatch_build.description((CHECKOUT / "README.md").read_text(), "1.2.3", source_url)
    targets = re.findall(r"\]\(([^()\s]+)\)", text)
    prefix = f"{source_url}/blob/v1.2.3/"
    assert targets == [each for each in targets if each.startswith(prefix)]
    assert bool(source_url) == bool(targets)
    paths = {each.removeprefix(prefix).partition("#")[0] for each in targets}
    assert {path for path in paths if not (CHECKOUT / path).is_file()} == set()
    assert ("Operations (`docs/operations.md`)" in text) is not bool(source_url)


def test_a_description_keeps_its_code_and_the_addresses_of_others() -> None:
    kept = "[a](https://example.org)\n```sh\nx [b](c)\n```\n"
    assert f"{kept}[d](u/blob/v1/README.md#e)" == hatch_build.description(f"{kept}[d](#e)", "1", "u")


def test_the_version_is_the_packages_in_client_and_server() -> None:
    try:
        version = importlib.metadata.version("botmaker-container-manager")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package is not installed")
    assert {version} == {container_manager.__version__, container_manager_client.__version__}


def test_the_source_distribution_holds_every_file_of_the_repository(tmp_path: Path) -> None:
    """Tests and documents, too: whoever packages it for a distribution runs and ships them."""
    # Of a copy: the build walks through every directory, also those of a running engine in .dev.
    copy, tree = tmp_path / "copy", tmp_path / "tree.tar"
    run("git", "-C", str(CHECKOUT), "archive", "--output", str(tree), "HEAD")
    with tarfile.open(tree) as archive:
        archive.extractall(copy, filter="data")
        tracked = {member.name for member in archive if member.isfile()}
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(tmp_path), str(copy))
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert set() == tracked - held
    assert {"PKG-INFO", ""} >= held - tracked - {str(parent) for name in tracked for parent in Path(name).parents}


@pytest.mark.parametrize("versions", ["lowest", "latest"])
@pytest.mark.timeout(600)
def test_the_client_works_from_the_wheel_without_extras(
    wheel: Path, target: str, tmp_path: Path, versions: str
) -> None:
    python = str(tmp_path / "env" / "bin" / "python")
    run(sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env"))
    pins = [re.sub(r">=([^,]+).*", r"==\1", each) for each in requirements(wheel)] if versions == "lowest" else []
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", str(wheel), *pins)
    assert run(python, "-I", "-W", "error", "-c", USE.format(target=target)).splitlines() == ["INVALID_BOT_ID", "[]"]
    botctl = subprocess.run([tmp_path / "env" / "bin" / "botctl"], capture_output=True, text=True, check=False, cwd="/")
    line = "botctl needs click, which is not installed: install the extra 'cli', as in pip install '.[cli]'\n"
    assert (1, "", line) == (botctl.returncode, botctl.stdout, botctl.stderr)
    manager = subprocess.run(
        [tmp_path / "env" / "bin" / "container-manager", "serve"], capture_output=True, text=True, check=False, cwd="/"
    )
    line = "container-manager needs click, which is not installed: install the extra 'server', "
    assert (1, "", f"{line}as in pip install '.[server]'\n") == (manager.returncode, manager.stdout, manager.stderr)
    brought = {canonicalize_name(name) for name in run(python, "-I", "-c", INSTALLED).split()}
    assert brought - {"botmaker-container-manager"} <= CLIENT_NEEDS
