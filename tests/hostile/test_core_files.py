"""The memory of a service that crashes is not written to a file."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.serving import ServerProcess

# As many core files as the machine allows.
_UNLIMITED = ("sh", "-c", 'ulimit -S -c "$(ulimit -H -c)"; exec "$@"', "sh")


def test_a_service_that_crashes_leaves_no_core(tmp_path: Path, session_dir: Path) -> None:
    """With a limit of 1 the kernel writes none, which would be too short, and pipes none to a program.

    A limit of 0 does not hold for pipes (core(5)); 1 does (Linux, fs/coredump.c).
    """
    arguments = ["--listen", f"unix://{session_dir}/core/s.sock", "--docker-host", "unix:///nowhere.sock"]
    process = ServerProcess([*arguments, "--secrets-root", str(tmp_path)], tmp_path / "log", prefix=_UNLIMITED)
    try:
        limits = Path(f"/proc/{process.process.pid}/limits").read_text()
    finally:
        process.close()
    assert re.search(r"^Max core file size +1 ", limits, re.MULTILINE), limits
