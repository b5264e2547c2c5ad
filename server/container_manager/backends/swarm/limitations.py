"""What a swarm cannot do, in sentences for callers."""

from __future__ import annotations

from collections.abc import Mapping

from container_manager.backend import Feature
from container_manager.backends.swarm.pinned_files import NO_FILES
from container_manager.backends.swarm.placement import Placing
from container_manager.config import BackendConfig, SwarmConfig

_NO_NODE_ENGINES = "a swarm's managers {}; the operator can name nodes' own engines with --node-engine"
_NO_COPIES = ", so no state is copied, and an upgrade needs skip_backup"


def limitations(config: BackendConfig, swarm: SwarmConfig) -> Mapping[Feature, str]:
    """What this swarm cannot do: without nodes' own engines, and with states that are on single nodes."""
    found = {
        Feature.SECRETS_RELOAD: "a bot on a swarm keeps the secrets that it was started with until it is restarted",
        Feature.PAUSE: "a swarm cannot pause a bot while its state is copied; ask for stop_and_restart",
    }
    if not swarm.node_engines:
        found[Feature.STATS] = _NO_NODE_ENGINES.format("have no figures of containers")
        found[Feature.ACTIONS] = _NO_NODE_ENGINES.format("run no programs in containers")
    if Placing(swarm.placement) is Placing.PINNED:
        found[Feature.FILES] = NO_FILES
        if not swarm.node_engines:
            found[Feature.BACKUPS] = _NO_NODE_ENGINES.format(f"do not reach states on single nodes{_NO_COPIES}")
        elif config.state_root is None:
            found[Feature.BACKUPS] = f"the service was started without --state-root{_NO_COPIES}"
    return found
