"""Bots' secrets and files: the rules for requests, and their storage in directories of this host.

``requests`` has the rules, ``host_secrets`` and ``host_files`` the storage. Both write first into a directory that no
bot sees (``staging``), and reach everything by descriptors that follow no links (``descriptors``).
"""
