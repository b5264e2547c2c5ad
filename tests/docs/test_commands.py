"""Every block of every document is executed in order, except those in ``listing.py``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from container_manager.config import ServerConfig
from tests.docs.conftest import OpenSandbox
from tests.docs.documents import DOCUMENTS, EXECUTED, Block, blocks, steps
from tests.docs.likeness import Likeness
from tests.docs.listing import LISTED
from tests.docs.sandbox import Sandbox

UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")

_HOSTNAMES = "HOSTNAME"


def executed(document: str) -> list[Block]:
    """The blocks that are executed unchanged."""
    begins = [listed.begins for listed in LISTED if listed.document == document]
    return [
        block
        for block in blocks(document)
        if block.language in EXECUTED and not any(map(block.text.startswith, begins))
    ]


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if executed(document)])
def test_every_block_does_what_the_document_says(
    document: str, open_sandbox: OpenSandbox, served: tuple[Path, ServerConfig]
) -> None:
    if os.geteuid() != 0 and any("sudo " in block.text for block in executed(document)):
        pytest.skip("only root can give files to a bot's user")
    sandbox = open_sandbox(document)
    likeness = Likeness(sandbox.ids)
    secrets_root = served[1].service.secrets_root.path
    for block in executed(document):
        if block.language == "python":
            sandbox.python(block.text, block.place)
        elif block.language == "sh":
            done = sandbox.shell(block.text)
            assert 0 == done.returncode, f"{block.place}: {done.stdout}"
        else:
            ours = {*sandbox.ids.values(), *(path.name for path in secrets_root.iterdir())}
            run_console(block, sandbox, likeness, ours)


def without_hostnames(lines: list[str]) -> list[str]:
    """The lines of a table without the column of host names."""
    begin = next((line.find(_HOSTNAMES) for line in lines if line.startswith("BOT ") and _HOSTNAMES in line), -1)
    if begin < 0:
        return lines
    end = next(line.index("STATE", begin) for line in lines if _HOSTNAMES in line)
    return [line[:begin] + line[end:] for line in lines]


def run_console(
    block: Block, sandbox: Sandbox, likeness: Likeness, ours: Iterable[str], *, guarded: bool = True
) -> None:
    """Every command prints the output that the document shows, and fails only where it shows an error."""
    for step in steps(block):
        done = sandbox.shell(step.command, guarded=guarded)
        lines = sandbox.documented(done.stdout).splitlines()
        # The engine may run other bots, also with a host name: then there is a column for it.
        if _HOSTNAMES not in "".join(step.shown):
            lines = without_hostnames(lines)
        printed = "\n".join(line for line in lines if set(UUID.findall(line)) <= set(ours))
        difference = likeness.difference(step.shown, printed)
        assert "" == difference, f"{block.place}: {step.command}: {difference}"
        fails = any(line.startswith(("Error:", "failed")) for line in step.shown)
        assert fails == (done.returncode != 0), f"{block.place}: {step.command} ended with {done.returncode}"
