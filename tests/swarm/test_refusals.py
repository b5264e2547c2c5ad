"""What a swarm refuses by itself, whatever a request asks for, and what it would make of values."""

from __future__ import annotations

from pathlib import Path

import pytest

from container_manager.config import BackendConfig, SwarmConfig
from dev.swarm import SwarmBed
from dev.swarm.conformance import ENGINES
from tests.support.calls import FOREVER, Calls, fails_with
from tests.support.swarm_bots import SwarmBots
from tests.support.swarm_containers import container_of
from tests.support.swarm_service import kept_service


def test_a_create_is_refused_while_an_old_engine_may_let_bots_gain_privileges(
    engine_name: str, bots: SwarmBots, swarm_service: BackendConfig, session_dir: Path, tmp_path: Path
) -> None:
    if engine_name != ENGINES[0]:
        pytest.skip("this engine keeps the setting")
    address = f"unix://{session_dir}/plain/s.sock"
    with (
        kept_service(swarm_service, SwarmConfig(), address, tmp_path) as plain,
        fails_with("UNIMPLEMENTED", "NOT_SUPPORTED_BY_BACKEND") as caught,
    ):
        plain.calls.create(bots.new(), *FOREVER)
    assert "--allow-weaker no-new-privileges" in caught[0].message
    assert {"backend", "node"} == set(caught[0].metadata)
    assert [] == bots.containers()


def test_a_swarm_makes_nothing_of_the_values_of_variables(calls: Calls, session_bed: SwarmBed, bots: SwarmBots) -> None:
    """To a swarm, they are templates of Go's, which its leader carries out."""
    values = ["Hello {{name}}, {{{ and }}", "{{.Node.Hostname}}{{/* left out */}}", '{{"{{"}}']
    given = {f"V{at}": value for at, value in enumerate(values)}
    bot_id = bots.new()
    calls.run(bot_id, *FOREVER, environment=given)
    found = container_of(session_bed, bots, bot_id).inspect()["Config"]["Env"]
    assert {f"{name}={value}" for name, value in given.items()} <= set(found)


def test_a_bot_that_a_swarm_could_not_start_is_refused_and_a_smaller_one_goes_through_its_life(
    calls: Calls, bots: SwarmBots
) -> None:
    bot_id = bots.new()
    texts = {f"V{at}": "x" * 120_000 for at in range(6)}
    with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG") as caught:
        calls.create(bot_id, *FOREVER, environment=texts)
    assert "config.environment" in caught[0].message
    assert [] == bots.containers()
    del texts["V0"]
    calls.run(bot_id, *FOREVER, environment=texts)
    calls.restart(bot_id, grace=0)
    calls.stop(bot_id, grace=0)
    calls.start(bot_id)
    calls.remove(bot_id, grace=0)
