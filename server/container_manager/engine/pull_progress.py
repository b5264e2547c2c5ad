"""How far the pull of an image is, as the engine's messages tell it."""

from __future__ import annotations

from typing import Any

from container_manager.backend_maintenance import Pulled

_COMPLETE = ("Download complete", "Extracting", "Pull complete")


class PullProgress:
    """Adds up the layers that are downloaded; those that the engine has already do not count."""

    def __init__(self) -> None:
        self._layers: dict[str, Pulled] = {}

    def take(self, message: dict[str, Any]) -> None:
        """Take over a message of the engine (moby, ``pkg/jsonmessage``)."""
        layer, status = str(message.get("id")), message.get("status")
        detail = message.get("progressDetail") or {}
        if status == "Downloading" and isinstance(total := detail.get("total"), int) and total > 0:
            self._layers[layer] = Pulled(min(int(detail.get("current") or 0), total), total)
        elif status in _COMPLETE and layer in self._layers:
            # The engine leaves out some messages, the last one of a layer among them.
            total = self._layers[layer].total_bytes
            self._layers[layer] = Pulled(total, total)

    @property
    def pulled(self) -> Pulled:
        """All layers together."""
        layers = list(self._layers.values())
        return Pulled(sum(each.downloaded_bytes for each in layers), sum(each.total_bytes for each in layers))
