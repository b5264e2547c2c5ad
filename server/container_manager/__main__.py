"""``python -m container_manager``."""

from container_manager.cli import main

main()
