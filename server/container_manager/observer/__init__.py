"""What observers are shown: logs and stats."""
