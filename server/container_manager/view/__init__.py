"""The live view: every managed container's status in memory, kept current by the engine's events.

``live_view`` holds the containers; ``refresher`` inspects single ones; ``synchronizer`` follows the engine; ``audit``
compares the view with the engine; ``subscription`` serves watchers. All run on one event loop and need no locks.
"""
