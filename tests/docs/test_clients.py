"""The programs in TypeScript that documents show compile under strict rules, and do what is said of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import docker
import pytest

from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.config import ServerConfig
from container_manager_client import connect
from dev.node_client import NODE_CLIENT, Node, ensure_node_client
from tests.docs.documents import blocks
from tests.support.bots import Bots
from tests.support.calls import Calls

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CLIENTS = "docs/clients.md"
EXAMPLE = "examples/node_client/README.md"
# What its document does not fix.
TSCONFIG = """{"compilerOptions": {
  "module": "NodeNext", "target": "ES2022", "types": ["node"], "strict": true, "skipLibCheck": true
}}"""
REFLECTION = """
import { credentials } from "@grpc/grpc-js";
import { Client } from "grpc-reflection-js";

const client = new Client(process.argv[2], credentials.createInsecure());
console.log((await client.listServices()).join());
const v1 = "botmaker.container.v1";
for (const symbol of ["ContainerManager", "ContainerManager.StartContainer", "ContainerStatus.exit_code",
                      "ContainerState", "CONTAINER_STATE_RUNNING"]) {
  await client.fileContainingSymbol(`${v1}.${symbol}`);
}
await client.fileByFilename("botmaker/container/v1/container_observer.proto");
process.exit(0);
"""
Program = Callable[..., str]


@pytest.fixture(scope="module")
def node() -> Node:
    """Node, with the example built."""
    return ensure_node_client()


@pytest.fixture(scope="module")
def project(node: Node, served: tuple[Path, ServerConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the packages, the generated code, and each program compiled, as DOCUMENT-N.js."""
    path = tmp_path_factory.mktemp("clients")
    for source in (Path(__file__).parent / "clients").iterdir():
        shutil.copy(source, path)
    node.npm(path, "ci", "--no-audit", "--no-fund")
    (path / "node_modules" / "botmaker-container-client").symlink_to(NODE_CLIENT)
    (template,) = (block.text for block in blocks(CLIENTS) if block.language == "yaml")
    (path / "buf.gen.yaml").write_text(template)
    environment = {**node.environment, "PATH": f"{path / 'node_modules' / '.bin'}:{node.environment['PATH']}"}
    buf = str(Path(sys.executable).parent / "buf")
    subprocess.run([buf, "generate", str(NODE_CLIENT / "proto")], cwd=path, env=environment, check=True)
    for document in (CLIENTS, EXAMPLE):
        shown = [block.text for block in blocks(document) if block.language == "typescript"]
        for number, text in enumerate(shown):
            name = f"{Path(document).parent.name}-{number}.ts"
            (path / name).write_text(text.replace("/run/botmaker", str(served[0] / "run")))
    (path / "tsconfig.json").write_text(TSCONFIG)
    done = subprocess.run(["npx", "tsc"], cwd=path, env=environment, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout
    return path


@pytest.fixture
def program(node: Node, project: Path) -> Program:
    """Runs a program of the project, and returns what it prints."""

    def run(name: str, *arguments: str) -> str:
        done = subprocess.run(
            [node.program, name, *arguments],
            cwd=project,
            env=node.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert 0 == done.returncode, done.stderr
        return done.stdout

    return run


def test_nice_grpc_calls_over_the_unix_socket_and_decodes_the_reason(program: Program) -> None:
    assert "CONTAINER_NOT_FOUND" in program("docs-0.js")


def test_connect_node_calls_over_the_unix_socket_and_decodes_the_reason(program: Program) -> None:
    assert "true CONTAINER_NOT_FOUND" in program("docs-1.js")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to the bots' user")
def test_the_examples_readme_makes_and_removes_a_bot(
    program: Program, engine: docker.DockerClient, served: tuple[Path, ServerConfig]
) -> None:
    secrets_root = served[1].service.secrets_root.path
    before = set(secrets_root.iterdir())
    assert "CONTAINER_STATE_RUNNING" in program("node_client-0.js")
    assert [] == engine.containers.list(all=True, filters={"label": "tenant=one"})
    assert before == set(secrets_root.iterdir())


def test_the_examples_readme_watches_and_reads_a_log(
    program: Program, project: Path, served: tuple[Path, ServerConfig], bots: Bots
) -> None:
    source = project / "node_client-1.js"
    bot_id = bots.bare()
    (served[1].service.secrets_root.path / bot_id).mkdir()
    with connect(served[1].listen[0]) as channel:
        Calls(ContainerManagerStub(channel)).run(bot_id, "sh", "-c", "echo one; sleep 100000")
    bots.wait_for_log(bot_id, b"one")
    source.write_text(source.read_text().replace("d2a4f7c0-94d5-4d55-8a3e-6f0c1b7e9a13", bot_id))
    assert program(source.name).startswith("one ")


def test_grpc_reflection_js_finds_services_methods_fields_enums_values_and_files(
    program: Program, project: Path, served: tuple[Path, ServerConfig]
) -> None:
    (project / "reflection.mjs").write_text(REFLECTION)
    assert "botmaker.container.v1.ContainerManager" in program("reflection.mjs", served[1].listen[0])


def test_nice_grpc_retries_neither_a_start_nor_a_restart(node: Node, project: Path, program: Program) -> None:
    """Its middleware goes by the idempotency level, which generated definitions have."""
    (project / "retries.mjs").write_text("""
import { ContainerManagerDefinition } from "./gen/nice-grpc/botmaker/container/v1/container_manager.js";
const methods = Object.values(ContainerManagerDefinition.methods);
console.log(methods.filter((method) => !method.options.idempotencyLevel).map((method) => method.name).join());
""")
    assert "StartContainer,RestartContainer\n" == program("retries.mjs")
