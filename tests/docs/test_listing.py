"""Every block of the documents is executed or listed, and every listed block exists."""

from __future__ import annotations

import ast

import pytest

from tests.docs.documents import DOCUMENTS, EXECUTED, SHOWN, TOP, blocks
from tests.docs.guard import objections, python_objections
from tests.docs.listing import BESIDE, LISTED, UNTIL, Listed

ALL = [block for document in DOCUMENTS for block in blocks(document)]


def test_every_block_says_what_it_is() -> None:
    """A block without a language would be neither executed nor listed."""
    assert [] == [(block.place, block.language) for block in ALL if block.language not in (*EXECUTED, *SHOWN)]


@pytest.mark.parametrize("listed", LISTED, ids=lambda listed: f"{listed.document}-{listed.begins[:20]}")
def test_what_is_listed_is_there_with_a_reason_and_the_test_that_shows_it(listed: Listed) -> None:
    found = [block for block in ALL if block.document == listed.document and block.text.startswith(listed.begins)]
    assert 1 == len(found)
    assert found[0].language in EXECUTED
    assert listed.reason
    assert listed.tests
    for test in listed.tests:
        module, _, name = test.partition("::")
        tree = ast.parse((TOP / module).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


@pytest.mark.parametrize("command", [*UNTIL, *BESIDE])
def test_a_command_without_an_end_is_in_a_document(command: str) -> None:
    assert any(command in block.text for block in ALL if block.language in EXECUTED)


@pytest.mark.parametrize(
    "script",
    [
        "make test",
        "sudo systemctl daemon-reload",
        "cd /tmp && apt-get install x",
        "echo $(rm -rf ~)",
        "x=1 y=$(pip install .)",
        "botctl remove --all",
        "docker run --rm busybox",
        "docker system prune",
        "container-manager --version; userdel x",
        "install -m 0644 a /etc/systemd/system/",
        "cat a | tee /opt/a",
        "cat a >/etc/passwd",
        "install a \\\n  /etc/b",
        "if true; then rm x; fi",
        "install -m 0644 README.md server/x",
        "mv ./README.md x",
        'install a "../a"',
        "echo x >server/x",
        "echo x >> README.md",
    ],
)
def test_what_would_change_the_machine_is_refused(script: str) -> None:
    assert [] != objections(script, "/sandbox")


@pytest.mark.parametrize(
    "script",
    [
        "bot_id=$(cat /proc/sys/kernel/random/uuid)  # /etc",
        'sudo install -d -o 1000 -g 1000 -m 0700 "/sandbox/lib/secrets/$bot_id"',
        "botctl create x --add-host a:host-gateway -- sh -c 'rm /x; exit 3'",
        'mv "$secrets/.GATEWAY_TOKEN.new" "$secrets/GATEWAY_TOKEN"',
        "botctl list 2>/dev/null >/dev/null 2>&1",
        "curl --fail http://127.0.0.1:1/bots/x",
        "A=unix:///sandbox/run/s uvicorn --app-dir examples/api_tier app:app",
    ],
)
def test_what_stays_in_the_sandbox_is_not_refused(script: str) -> None:
    assert [] == objections(script, "/sandbox")


def test_python_that_loads_more_than_the_client_is_refused() -> None:
    assert [] != python_objections("import grpc\nfrom os import system")
    assert [] != python_objections("def f():\n    import subprocess")
    assert [] == python_objections("import grpc\nfrom container_manager_client import connect")
