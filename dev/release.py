"""Releases a version: `make release VERSION=0.2.0`, or with `DRY_RUN=1` in a clone that is thrown away.

It writes the version and the date of the changelog, commits, tags, builds the source distribution and the wheel into
`dist/`, checks them as the package index would, and builds the service's image. It publishes nothing: it ends with the
commands that do. A dry run does the same up to the image, whose command it prints.
"""

import argparse
import datetime as dt
import re
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
IMAGE = "botmaker/container-manager"
_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
_PROJECT_VERSION = re.compile(r'^version = "([^"]+)"$', re.MULTILINE)
_UNRELEASED = re.compile(
    r"^## Unreleased\n\n(?:These changes will be \S+\.\n\n)?(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL
)
_OWN_IMAGE = r"(botmaker/(?:container-manager|example-api-tier)):{}"


class NotReleasedError(RuntimeError):
    """Why nothing was released, in one sentence."""


def order(version: str) -> tuple[int, ...]:
    """The key by which versions are ordered. Raises NotReleasedError."""
    match = _VERSION.fullmatch(version)
    if match is None:
        raise NotReleasedError(f"{version!r} is not a version such as 0.2.0")
    return tuple(map(int, match.groups()))


def check(checkout: Path, version: str, *, dry_run: bool) -> None:
    """Raise NotReleasedError unless `version` can be released from `checkout`."""
    key = order(version)
    released = [tag.removeprefix("v") for tag in _git(checkout, "tag", "--list", "v*").split()]
    newest = max(filter(_VERSION.fullmatch, released), key=order, default=None)
    if newest is not None and key <= order(newest):
        raise NotReleasedError(f"{version} is not newer than {newest}, which has been released")
    if _git(checkout, "status", "--porcelain"):
        raise NotReleasedError("there are changes that are not committed: git status shows them")
    if not _unreleased(checkout)[1].strip():
        raise NotReleasedError("CHANGELOG.md has nothing under Unreleased")
    if not dry_run and _git(checkout, "branch", "--show-current").strip() != "main":
        raise NotReleasedError("releases are made from the branch main")


def write_version(checkout: Path, version: str, today: dt.date) -> None:
    """Write the version where it stands: the project, the changelog, and the tags of the images."""
    project = checkout / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    (before,) = _PROJECT_VERSION.findall(text)
    project.write_text(_PROJECT_VERSION.sub(f'version = "{version}"', text, count=1), encoding="utf-8")
    section = _unreleased(checkout)
    changelog = checkout / "CHANGELOG.md"
    text = changelog.read_text(encoding="utf-8")
    dated = f"## Unreleased\n\n## {version} - {today.isoformat()}\n\n{section[1]}"
    changelog.write_text(text.replace(section[0], dated), encoding="utf-8")
    tag = re.compile(_OWN_IMAGE.format(re.escape(before)))
    for name in _git(checkout, "ls-files", "deploy", "examples").split():
        path = checkout / name
        path.write_text(tag.sub(rf"\1:{version}", path.read_text(encoding="utf-8")), encoding="utf-8")


def commit(checkout: Path, version: str) -> None:
    """Commit the version, and tag the commit."""
    _git(checkout, "commit", "--quiet", "--all", "--message", f"Release {version}")
    _git(checkout, "tag", "--annotate", "--message", f"Release {version}", f"v{version}")


def build(checkout: Path, version: str, output: Path) -> None:
    """Build the source distribution and the wheel of the tag, and check them."""
    with tempfile.TemporaryDirectory() as scratch:
        # Of the tag alone: not of files that are not in it.
        _git(checkout, "archive", "--output", f"{scratch}/tree.tar", f"v{version}")
        tree = Path(scratch, "tree")
        tree.mkdir()
        _run(tree, "tar", "--extract", "--file", f"{scratch}/tree.tar")
        _run(tree, sys.executable, "-m", "build", "--no-isolation", "--outdir", str(output), ".")
    built = [str(path) for path in sorted(output.glob(f"*-{version}*"))]
    _run(checkout, sys.executable, "-m", "twine", "check", "--strict", *built)


def image_command(version: str) -> list[str]:
    """The command that builds the service's image."""
    return ["docker", "build", "--file", "deploy/Dockerfile", "--tag", f"{IMAGE}:{version}", "."]


def main() -> int:
    """The exit status: 0 if released, or if the dry run found nothing wrong."""
    parser = argparse.ArgumentParser(prog="python -m dev.release")
    parser.add_argument("version")
    parser.add_argument("--dry-run", action="store_true", help="do it in a temporary clone; change nothing here")
    options = parser.parse_args()
    today = dt.datetime.now(tz=dt.UTC).date()
    try:
        check(CHECKOUT, options.version, dry_run=options.dry_run)
    except NotReleasedError as exc:
        print(f"release: {exc}", file=sys.stderr)
        return 1
    if options.dry_run:
        _dry_run(options.version, today)
        return 0
    write_version(CHECKOUT, options.version, today)
    commit(CHECKOUT, options.version)
    build(CHECKOUT, options.version, CHECKOUT / "dist")
    _run(CHECKOUT, *image_command(options.version))
    print("Released here. To publish it:")
    for line in (
        f"git push origin main v{options.version}",
        f"python -m twine upload dist/*-{options.version}*",
        f"docker push {IMAGE}:{options.version}",
    ):
        print(f"  {line}")
    return 0


def _dry_run(version: str, today: dt.date) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        clone = Path(scratch, "clone")
        # Not --local: a shallow checkout, as in CI, can be cloned only through its address.
        _git(CHECKOUT, "clone", "--quiet", CHECKOUT.as_uri(), str(clone))
        # Nobody sees this commit; a CI machine has no author.
        for name in ("name", "email"):
            _git(clone, "config", f"user.{name}", "dry-run")
        write_version(clone, version, today)
        print(_git(clone, "diff", "--unified=0"))
        commit(clone, version)
        build(clone, version, Path(scratch, "dist"))
        print("Would build:", *image_command(version))
    print(f"Nothing was released: {version} can be.")


def _unreleased(checkout: Path) -> re.Match[str]:
    section = _UNRELEASED.search((checkout / "CHANGELOG.md").read_text(encoding="utf-8"))
    if section is None:
        raise NotReleasedError("CHANGELOG.md has no section Unreleased")
    return section


def _git(directory: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=directory, stdout=subprocess.PIPE, text=True, check=True).stdout


def _run(directory: Path, *command: str) -> None:
    subprocess.run(command, cwd=directory, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
