"""The container manager service: one Docker container per bot, behind seven lifecycle operations."""
