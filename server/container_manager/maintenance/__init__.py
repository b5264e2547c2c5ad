"""Readiness, backups, upgrades and actions, on top of a backend.

``runs`` carries out long operations for callers that may go away, and ``journal`` keeps on disk where each one is.
``backup_store`` keeps the archives, which ``archive`` writes and ``unpacking`` verifies. ``manifest`` describes one.
"""
