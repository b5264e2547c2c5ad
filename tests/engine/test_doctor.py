"""``container-manager doctor`` as an operator runs it, beside the real engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.documents import blocks


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "secrets"
    path.mkdir(mode=0o711)
    return path


def doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "container_manager", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_an_installation_in_order_is_ok(engine_url: str, root: Path, target: str, test_image: str) -> None:
    done = doctor(
        "--docker-host", engine_url, "--secrets-root", str(root), "--listen", target, "--default-image", test_image,
        "--running",
    )  # fmt: skip
    assert (0, "") == (done.returncode, done.stderr), done.stdout
    assert "failed" not in done.stdout
    assert "a server answers" in done.stdout
    for name in ("engine", "API version", "storage driver", "default image", "clock", "secrets root", "socket"):
        assert any(line.split(maxsplit=1)[1].startswith(name) for line in done.stdout.splitlines()), name


def test_what_has_failed_is_told_with_its_remedy_and_an_exit_status(tmp_path: Path) -> None:
    done = doctor("--docker-host", f"unix://{tmp_path}/none.sock", "--secrets-root", f"{tmp_path}/none")
    assert (1, "") == (done.returncode, done.stderr)
    failed = [line for line in done.stdout.splitlines() if line.startswith("failed")]
    assert ["engine", "secrets"] == [line.split()[1] for line in failed]
    assert f"-> create it first, as with: install -d -m 0711 {tmp_path}/none" in done.stdout


def test_the_readmes_doctor_has_the_settings_of_the_unit(
    engine_url: str, root: Path, target: str, test_image: str, tmp_path: Path
) -> None:
    """The file belongs to this test, and the user of the test runs it."""
    [block] = [block for block in blocks("deploy/README.md") if "runuser" in block.text]
    command = block.text
    for documented, here in {
        "runuser -u container-manager -- ": "",
        "/etc/default/container-manager": str(tmp_path / "settings"),
        "/opt/container-manager/bin/container-manager": f"{sys.executable} -m container_manager",
    }.items():
        assert 1 == command.count(documented), documented
        command = command.replace(documented, here)
    settings = {
        "CONTAINER_MANAGER_DOCKER_HOST": engine_url,
        "CONTAINER_MANAGER_SECRETS_ROOT": root,
        "CONTAINER_MANAGER_LISTEN": target,
        "CONTAINER_MANAGER_DEFAULT_IMAGE": test_image,
    }
    (tmp_path / "settings").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert (0, "") == (done.returncode, done.stderr), done.stdout
    assert str(root) in done.stdout
    assert "a server answers" in done.stdout


def test_a_wrong_option_is_one_line(root: Path) -> None:
    done = doctor("--docker-host", "nonsense", "--secrets-root", str(root))
    assert (2, "") == (done.returncode, done.stdout)
    assert "Traceback" not in done.stderr
