"""The entry point of ``container-manager``, also as ``python -m container_manager``."""

from __future__ import annotations

import sys

# What the extra "server" adds.
_EXTRA_PACKAGES = ("aiohttp", "click", "docker", "grpc_health", "grpc_reflection", "prometheus_client", "structlog")


def main() -> None:
    """Runs ``container-manager``. Without its extra, prints one line that says what to install."""
    try:
        from container_manager.cli import main as run

        run(prog_name="container-manager")
    except ModuleNotFoundError as exc:
        missing = (exc.name or "").partition(".")[0]
        if missing not in _EXTRA_PACKAGES:
            raise
        sys.exit(
            f"container-manager needs {missing}, which is not installed: "
            "install the extra 'server', as in pip install '.[server]'"
        )


if __name__ == "__main__":
    main()
