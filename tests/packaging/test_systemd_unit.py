"""systemd accepts the unit, which uses only existing options and keeps no right that it does not need."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.documents import blocks

DEPLOYED = Path(__file__).parents[2] / "deploy" / "systemd"
UNIT = "container-manager.service"

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with an existing program."""
    path = tmp_path / UNIT
    path.write_text(re.sub(r"ExecStart=\S+", f"ExecStart={sys.executable}", (DEPLOYED / UNIT).read_text()))
    return path


@needs_systemd
def test_systemd_finds_nothing_wrong_with_the_unit(unit: Path) -> None:
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)


@needs_systemd
def test_systemd_finds_nothing_wrong_with_the_backups_of_every_night(unit: Path, tmp_path: Path) -> None:
    for name in ("container-manager-backup.service", "container-manager-backup.timer"):
        text = (DEPLOYED / name).read_text()
        (tmp_path / name).write_text(re.sub(r"ExecStart=\S+", f"ExecStart={sys.executable}", text))
    paths = [str(path) for path in tmp_path.glob("*backup*")]
    assert 2 == len(paths)
    done = subprocess.run(["systemd-analyze", "verify", str(unit), *paths], capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)


@needs_systemd
def test_the_unit_exposes_little_by_systemds_own_measure(unit: Path) -> None:
    """The exposure goes from 0 to 10; a unit without restrictions has 9.6. The threshold is in tenths."""
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not installed")
def test_the_users_and_groups_that_the_unit_names_are_made(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "group").write_text("docker:x:999:\n")
    command = ["systemd-sysusers", f"--root={tmp_path}", str(DEPLOYED / "container-manager.sysusers")]
    # It looks for the file below the root, at the same path.
    (tmp_path / str(DEPLOYED)[1:]).mkdir(parents=True)
    shutil.copy(DEPLOYED / "container-manager.sysusers", tmp_path / str(DEPLOYED)[1:])
    subprocess.run(command, capture_output=True, check=True)
    service = _section("Service")
    groups = {line.split(":")[0]: line.split(":")[3] for line in (tmp_path / "etc/group").read_text().split()}
    assert f"{service['User']}:" in (tmp_path / "etc" / "passwd").read_text()
    assert service["User"] in groups[service["SupplementaryGroups"]].split(",")
    assert service["Group"] in groups


def test_the_drain_ends_before_systemds_patience() -> None:
    from container_manager.config import ServerConfig

    assert ServerConfig.drain_seconds + 1 < int(_section("Service")["TimeoutStopSec"])


def test_every_variable_of_the_defaults_is_one_of_the_services_options() -> None:
    text = (DEPLOYED / "container-manager.default").read_text()
    used = set(re.findall(r"^#?(CONTAINER_MANAGER_\w+)=", text, re.MULTILINE))
    command = [sys.executable, "-m", "container_manager", "serve", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert used
    assert used <= set(re.findall(r"CONTAINER_MANAGER_\w+", told))


def test_the_readme_makes_every_directory_that_the_defaults_name() -> None:
    """Those that are commented out, too; the unit makes the socket's."""
    text = (DEPLOYED / "container-manager.default").read_text()
    values = re.findall(r"^#?CONTAINER_MANAGER_\w+=(?:unix://)?(/\S+)$", text, re.MULTILINE)
    named = {str(Path(each).parent) if each.endswith(".sock") else each for each in values}
    install = _installation()
    [line] = [line for line in install.splitlines() if line.startswith("install -d")]
    made = {word for word in line.split() if word.startswith("/")} | {f"/run/{_section('Service')['RuntimeDirectory']}"}
    assert 3 <= len(named)
    assert set() == named - made


def test_botctl_is_beside_the_service_of_the_unit_and_on_the_path() -> None:
    install = _installation()
    environment = str(Path(_section("Service")["ExecStart"].split()[0]).parent)
    assert f"{environment}/pip install '.[server,cli]'\n" in install
    assert f"ln -s {environment}/container-manager {environment}/botctl /usr/local/bin/\n" in install


def _installation() -> str:
    """The README's commands."""
    [block] = [block for block in blocks("deploy/README.md") if block.text.startswith("install -D ")]
    return block.text


def _section(name: str) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(DEPLOYED / UNIT)
    return dict(parser[name])
