"""A release: what it changes, what it refuses, and a dry run that changes nothing."""

from __future__ import annotations

import datetime as dt
import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
import yaml

from dev import release

CHECKOUT = Path(__file__).parents[2]


def git(directory: Path, *arguments: str) -> str:
    """The output of git."""
    return subprocess.run(["git", *arguments], cwd=directory, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of what is committed here, on the branch main, without this repository's tags."""
    path, tree = tmp_path / "clone", tmp_path / "tree.tar"
    git(CHECKOUT, "archive", "--output", str(tree), "HEAD")
    with tarfile.open(tree) as archive:
        archive.extractall(path, filter="data")
    git(path, "init", "--quiet", "--initial-branch", "main")
    git(path, "config", "user.name", "tests")
    git(path, "config", "user.email", "tests@example.org")
    git(path, "add", "--all", "--force")
    git(path, "commit", "--quiet", "--message", "All")
    return path


@pytest.mark.slow
def test_a_dry_run_builds_the_packages_of_the_next_version_and_changes_nothing(clone: Path) -> None:
    before = git(clone, "rev-parse", "HEAD")
    command = [sys.executable, "-m", "dev.release", "47.1.1", "--dry-run"]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    assert 2 == len(re.findall(r"^Checking\s+\S+-47\.1\.1\S*: .*PASSED", done.stderr, re.MULTILINE)), done.stderr
    assert "Would build: docker build --file deploy/Dockerfile --tag botmaker/container-manager:47.1.1 ." in done.stdout
    assert ("Nothing was released: 47.1.1 can be.", "") == (done.stdout.splitlines()[-1], git(clone, "tag"))
    assert (before, "") == (git(clone, "rev-parse", "HEAD"), git(clone, "status", "--porcelain"))


def test_a_release_writes_the_version_and_the_date_and_tags_the_commit(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(release, "CHECKOUT", clone)
    monkeypatch.setattr(release, "build", lambda *_: ran.append(("build",)))
    monkeypatch.setattr(release, "_run", lambda _, *command: ran.append(command))
    monkeypatch.setattr(sys, "argv", ["release", "47.1.1"])
    assert 0 == release.main()
    assert [("build",), tuple(release.image_command("47.1.1"))] == ran
    assert git(clone, "rev-parse", "v47.1.1^{commit}") == git(clone, "rev-parse", "HEAD")
    assert "" == git(clone, "status", "--porcelain")
    today = dt.datetime.now(tz=dt.UTC).date().isoformat()
    assert f"## Unreleased\n\n## 47.1.1 - {today}\n\n" in (clone / "CHANGELOG.md").read_text()
    assert '\nversion = "47.1.1"\n' in (clone / "pyproject.toml").read_text()
    named = {
        tag for name in git(clone, "ls-files", "deploy", "examples").split()
        for tag in re.findall(r"botmaker/(?:container-manager|example-api-tier):([\w.]+)", (clone / name).read_text())
    }  # fmt: skip
    assert {"47.1.1"} == named


@pytest.mark.parametrize(
    ("version", "preparation", "reason"),
    [
        ("1", "true", "'1' is not a version such as 0.2.0"),
        ("v0.3.0", "true", "'v0.3.0' is not a version such as 0.2.0"),
        ("0.2.0", "git tag v0.2.0", "0.2.0 is not newer than 0.2.0, which has been released"),
        ("0.9.0", "git tag v0.9.0 && git tag v0.10.0", "0.9.0 is not newer than 0.10.0, which has been released"),
        ("0.2.0", "echo x >x", "there are changes that are not committed: git status shows them"),
        ("0.2.0", "echo '# Changelog' >CHANGELOG.md; git commit -qam x", "CHANGELOG.md has no section Unreleased"),
        ("0.2.0", "printf '## Unreleased\\n\\n## 0.1.0\\n\\n- x\\n' >CHANGELOG.md; git commit -qam x",
         "CHANGELOG.md has nothing under Unreleased"),
        ("0.2.0", "git switch -qc other", "releases are made from the branch main"),
    ],
    ids=["no version", "v", "released", "older by number", "dirty", "no section", "nothing new", "branch"],
)  # fmt: skip
def test_what_cannot_be_released_is_refused_and_changes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    version: str,
    preparation: str,
    reason: str,
) -> None:
    prepare = "git init -qb main && git config user.name t && git config user.email t@example.org && "
    prepare += "printf '## Unreleased\\n\\n- new\\n' >CHANGELOG.md && git add . && git commit -qm x && " + preparation
    subprocess.run(["sh", "-ec", prepare], cwd=tmp_path, check=True)
    before = git(tmp_path, "rev-parse", "HEAD")
    monkeypatch.setattr(release, "CHECKOUT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["release", version])
    assert 1 == release.main()
    assert f"release: {reason}\n" == capsys.readouterr().err
    assert before == git(tmp_path, "rev-parse", "HEAD")


def test_the_workflow_of_a_public_forge_runs_the_same_two_commands() -> None:
    """Both by themselves, so that nothing about this project depends on the forge."""
    workflow = yaml.safe_load((CHECKOUT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    runs = [step["run"].strip() for step in steps if "run" in step]
    assert ["sudo --preserve-env=CI .ci/run", "make release VERSION=999.0.0 DRY_RUN=1"] == runs
    assert {"actions/checkout"} == {step["uses"].partition("@")[0] for step in steps if "uses" in step}
    # The token of a run can do nothing but read the sources.
    assert {"contents": "read"} == workflow["permissions"]


def test_pre_commit_runs_linters_of_make_check_and_editors_have_their_line_length() -> None:
    hooks = yaml.safe_load((CHECKOUT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    check = (CHECKOUT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    lines = [line.strip().replace("$(PYTHON)", ".venv/bin/python") for line in check.splitlines()]
    assert [] == [hook["entry"] for hook in hooks if hook["entry"] not in lines]
    assert len(hooks) >= 4
    length = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["ruff"]["line-length"]
    assert f"max_line_length = {length}\n" in (CHECKOUT / ".editorconfig").read_text()
