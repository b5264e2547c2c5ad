"""A tar stream becomes a directory tree, whatever a bot has put into it, and a directory tree a tar stream."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from container_manager.backend_maintenance import Copied
from container_manager.errors import CapacityExceededError, StateTooLargeError, StateUnavailableError
from container_manager.provisioning import tree_stream
from tests.support.descriptors import opened_below
from tests.unit.provisioned import entries as entries_of
from tests.unit.test_tree_copy import made_state, picture


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return made_state(tmp_path / "source")


def packed(directory: Path) -> bytes:
    """The tar stream of a directory."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        return b"".join(tree_stream.pack_tree(descriptor, "state"))
    finally:
        os.close(descriptor)


class Reading(io.BytesIO):
    """A stream that gives few bytes at a time, as a connection may."""

    def read(self, count: int | None = -1, /) -> bytes:
        return super().read(min(count or 0, 1000))


def unpacked(stream: bytes, target: Path, without: tuple[str, ...] = ()) -> Copied:
    """Unpack a stream into a new directory."""
    target.mkdir()
    descriptor = os.open(target, os.O_RDONLY)
    try:
        return tree_stream.unpack_tree(Reading(stream), "state", descriptor, without=without)
    finally:
        os.close(descriptor)


def in_whole_seconds(directory: Path) -> None:
    """Change the times of all files and directories to what an engine tells."""
    for path in [directory, *directory.rglob("*")]:
        if not path.is_symlink():
            seconds = int(path.stat().st_mtime)
            os.utime(path, (seconds, seconds))


def entry(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", link: str = "") -> bytes:
    """An entry of a stream."""
    member = tarfile.TarInfo(name)
    member.type, member.size, member.linkname, member.mode = kind, len(content), link, 0o700
    member.uid, member.gid = os.geteuid(), os.getegid()
    return member.tobuf() + content + bytes(-len(content) % 512)


def stream(*entries: bytes, end: bytes = bytes(1024)) -> bytes:
    """A whole stream with these entries in the directory."""
    return b"".join([entry("state", tarfile.DIRTYPE), *entries, end])


def test_a_tree_is_the_same_after_its_stream(source: Path, tmp_path: Path) -> None:
    (source / os.fsdecode(b"\xff\xfe")).write_text("no UTF-8")
    (source / ("ü" * 80)).mkdir()
    (source / ("ü" * 80) / ("x" * 250)).symlink_to("y" * 200)
    if os.geteuid() == 0:
        os.chown(source / "a" / "link", 1000, 1001, follow_symlinks=False)
    in_whole_seconds(source)
    os.utime(source / "a" / "b", ns=(1, -1_000_000_000))
    copied = unpacked(packed(source), tmp_path / "copy")
    assert picture(source) == picture(tmp_path / "copy")
    assert (9, 3_000_008, []) == (copied.entries, copied.size_bytes, copied.left_out)


def test_a_stream_tells_times_to_the_nanosecond(source: Path) -> None:
    os.utime(source, ns=(1, 1_500_000_000_123_456_789))
    with tarfile.open(fileobj=io.BytesIO(packed(source))) as archive:
        members = {member.name: member.pax_headers["mtime"] for member in archive}
    assert ("1500000000.123456789", "2.000000003") == (members["state"], members["state/a/empty"])


def test_files_with_several_names_keep_them(source: Path, tmp_path: Path) -> None:
    """Else a bot could make its state much larger by that."""
    os.link(source / "a" / "b" / "file", source / "z")
    os.link(source / "a" / "b" / "file", source / "a" / "file")
    in_whole_seconds(source)
    sent = packed(source)
    assert len(sent) < 3_100_000
    copied = unpacked(sent, tmp_path / "copy")
    assert 3_000_000 == copied.size_bytes
    assert 1 == len({(tmp_path / "copy" / name).stat().st_ino for name in ("a/b/file", "z", "a/file")})
    assert picture(source) == picture(tmp_path / "copy")


def test_what_is_left_out_is_gone_but_for_what_has_a_name_elsewhere(source: Path, tmp_path: Path) -> None:
    os.link(source / "a" / "b" / "file", source / "z")
    (source / "a" / "b" / "c").mkdir()
    in_whole_seconds(source)
    copied = unpacked(packed(source), tmp_path / "copy", without=("a/b", "a/empty", "nothing/x", "a/link/x"))
    assert ["a", "a/dangling", "a/link", "z"] == sorted(
        str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*")
    )
    assert (source / "z").read_bytes() == (tmp_path / "copy" / "z").read_bytes()
    assert (4, 0) == (copied.entries, copied.size_bytes)
    assert (source / "a").stat().st_mtime_ns == (tmp_path / "copy" / "a").stat().st_mtime_ns


def test_holes_stay_holes_where_the_stream_has_zeros(tmp_path: Path) -> None:
    content = bytes(5 << 20) + b"data" + bytes(5 << 20)
    unpacked(stream(entry("state/sparse", content=content)), tmp_path / "copy")
    assert content == (tmp_path / "copy" / "sparse").read_bytes()
    assert (tmp_path / "copy" / "sparse").stat().st_blocks * 512 < 3 << 20


def test_pipes_and_devices_and_further_names_of_them_are_left_out_and_named(tmp_path: Path) -> None:
    entries = (
        entry("state/pipe", tarfile.FIFOTYPE),
        entry("state/device", tarfile.BLKTYPE),
        entry("state/other", tarfile.LNKTYPE, link="state/pipe"),
        entry("state/tmp", tarfile.DIRTYPE),
        entry("state/tmp/pipe", tarfile.FIFOTYPE),
        entry("state/z", content=b"z"),
    )
    copied = unpacked(stream(*entries), tmp_path / "copy", without=("tmp",))
    assert ["pipe", "device", "other"] == copied.left_out
    assert ["z"] == entries_of(tmp_path / "copy")


def test_no_entry_has_the_rights_of_another_user(source: Path, tmp_path: Path) -> None:
    (source / "a" / "empty").chmod(0o6751)
    unpacked(packed(source), tmp_path / "copy")
    assert 0o751 == stat.S_IMODE((tmp_path / "copy" / "a" / "empty").stat().st_mode)


def timeless() -> bytes:
    """An entry whose time no computer can have."""
    member = tarfile.TarInfo("state/x")
    member.pax_headers = {"mtime": "1e400"}
    return member.tobuf(tarfile.PAX_FORMAT)


HOSTILE = {
    "an absolute path": [entry("/etc/x")],
    "a path that leads out": [entry("state/../x")],
    "a path that leads out further below": [entry("state/d", tarfile.DIRTYPE), entry("state/d/../../x")],
    "another directory": [entry("other/x")],
    "an empty name": [entry("state//x")],
    "the directory twice": [entry("state", tarfile.DIRTYPE)],
    "a file below a link": [entry("state/l", tarfile.SYMTYPE, link="/tmp"), entry("state/l/x", content=b"secret")],
    "a link in the place of a directory": [
        entry("state/d", tarfile.DIRTYPE),
        entry("state/d", tarfile.SYMTYPE, link=".."),
        entry("state/d/x", content=b"secret"),
    ],
    "a file in the place of a link": [
        entry("state/l", tarfile.SYMTYPE, link="../victim"),
        entry("state/l", content=b"secret"),
    ],
    "a hard link to a file outside": [entry("state/h", tarfile.LNKTYPE, link="../victim")],
    "a hard link to an absolute path": [entry("state/h", tarfile.LNKTYPE, link="/etc/passwd")],
    "a hard link through a link": [
        entry("state/l", tarfile.SYMTYPE, link=".."),
        entry("state/h", tarfile.LNKTYPE, link="state/l/victim"),
    ],
    "a hard link to nothing": [entry("state/h", tarfile.LNKTYPE, link="state/none")],
    "a hard link to a directory": [entry("state/h", tarfile.LNKTYPE, link="state/")],
    "a time that there is not": [timeless()],
}


@pytest.mark.parametrize("entries", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_stream_is_refused_and_nothing_is_made_outside(entries: list[bytes], tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("victim")
    with pytest.raises((StateUnavailableError, OSError)):
        unpacked(stream(*entries), tmp_path / "copy")
    assert ["copy", "victim"] == entries_of(tmp_path)
    assert ("victim", 1) == ((tmp_path / "victim").read_text(), (tmp_path / "victim").stat().st_nlink)
    made = [path for path in (tmp_path / "copy").rglob("*") if path.is_file() and not path.is_symlink()]
    assert [] == [path for path in made if b"victim" in path.read_bytes() or path.stat().st_nlink > 1]


def test_attributes_of_any_size_take_no_memory(tmp_path: Path) -> None:
    for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
        member = tarfile.TarInfo("state/x")
        member.type, member.size = kind, 1 << 40
        with pytest.raises(StateUnavailableError, match="too long"):
            unpacked(stream(member.tobuf(tarfile.GNU_FORMAT)), tmp_path / kind.decode())


def test_a_further_name_of_a_link_is_that_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("victim")
    link = entry("state/l", tarfile.SYMTYPE, link="../victim")
    unpacked(stream(link, entry("state/m", tarfile.LNKTYPE, link="state/l")), tmp_path / "copy")
    assert "../victim" == str((tmp_path / "copy" / "m").readlink())
    assert 1 == (tmp_path / "victim").stat().st_nlink


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        bytes(1024),
        entry("state/x"),
        b"no archive at all" * 100,
        stream(entry("state/x", content=b"x" * 600), end=b""),
        stream(entry("state/x", content=b"x" * 600))[:-1700],
        stream(entry("state/x", content=b"x" * 600))[:-1024] + b"\1" * 512,
        stream(entry("state/x", content=b"x" * 600))[:1100],
        stream(end=bytes(100)),
    ],
    ids=[
        "nothing",
        "no entry",
        "no directory",
        "no archive",
        "no end",
        "within a file",
        "a damaged header",
        "within a header",
        "within the end",
    ],
)
def test_a_stream_that_is_not_complete_is_refused(broken: bytes, tmp_path: Path) -> None:
    """An engine ends its stream so when a file is cut short, or cannot be read, while it is sent."""
    with pytest.raises(StateUnavailableError, match="cannot be read"):
        unpacked(broken, tmp_path / "copy")


def test_what_the_stream_itself_raises_is_passed_on(tmp_path: Path) -> None:
    class Broken:
        def read(self, _: int) -> bytes:
            raise CapacityExceededError("as it is")

    descriptor = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(CapacityExceededError, match="as it is"):
        tree_stream.unpack_tree(Broken(), "state", descriptor)
    os.close(descriptor)


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("MAX_ENTRIES", "more than 3 files"),
        ("MAX_DEPTH", "deeper than 3"),
        ("MAX_BYTES", "files have more than 3 bytes"),
        ("MAX_PATHS_BYTES", "paths of all files together have more than 3 bytes"),
    ],
)
def test_a_state_of_too_many_too_deep_or_too_large_files_is_refused(
    source: Path, tmp_path: Path, limit: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "a" / "a" / "c" / "d").mkdir(parents=True)
    monkeypatch.setattr(tree_stream, limit, 3)
    with pytest.raises(StateTooLargeError, match=words):
        unpacked(packed(source), tmp_path / "copy")


def test_the_deepest_directory_that_a_copy_may_have_is_taken(source: Path, tmp_path: Path) -> None:
    deepest = source.joinpath(*["d"] * tree_stream.MAX_DEPTH)
    deepest.mkdir(parents=True)
    (deepest / "file").touch()
    unpacked(packed(source), tmp_path / "copy")
    (deepest / "d").mkdir()
    with pytest.raises(StateTooLargeError):
        unpacked(packed(source), tmp_path / "other")


def test_progress_tells_the_bytes_and_no_descriptor_is_left(source: Path, tmp_path: Path) -> None:
    told: list[int] = []
    (tmp_path / "copy").mkdir()
    descriptor = os.open(tmp_path / "copy", os.O_RDONLY)
    sent = packed(source)
    tree_stream.unpack_tree(Reading(sent), "state", descriptor, on_progress=told.append)
    os.close(descriptor)
    assert (3_000_000, sorted(told)) == (told[-1], told)
    assert [] == opened_below(tmp_path)
