"""What keeps bots alive: actions inside their containers, readiness, upgrades and backups, on top of any backend."""
