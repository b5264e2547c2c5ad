"""Everything on an engine, in a comparable form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import docker


@dataclass(frozen=True)
class EngineState:
    """Takes pictures of one engine."""

    api: docker.APIClient

    def picture(self) -> dict[str, Any]:
        """Containers, networks, volumes and images: their identity and everything that a call could change."""
        return {
            "containers": sorted(
                (row["Id"], row["Names"], row["State"], row["Image"], sorted(row["Labels"].items()))
                for row in self.api.containers(all=True)
            ),
            "networks": sorted((network["Id"], network["Name"]) for network in self.api.networks()),
            "volumes": sorted(volume["Name"] for volume in self.api.volumes()["Volumes"] or []),
            "images": sorted((image["Id"], image["RepoTags"]) for image in self.api.images(all=True)),
        }
