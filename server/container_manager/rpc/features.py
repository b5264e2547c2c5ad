"""What a backend cannot do is refused before anything changes."""

from __future__ import annotations

from container_manager.backend import Backend, Feature
from container_manager.errors import NotSupportedByBackendError


def require(backend: Backend, feature: Feature) -> None:
    """Raise :class:`NotSupportedByBackendError`, with the backend's own sentence, if it lacks the feature."""
    limitation = backend.limitations.get(feature)
    if limitation is not None:
        raise NotSupportedByBackendError(limitation, backend=backend.name)
