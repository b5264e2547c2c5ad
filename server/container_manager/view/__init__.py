"""The live view: every managed container's status in memory, kept true by the engine's events.

``live_view`` holds it; ``refresher`` brings single containers up to date; ``synchronizer`` follows the engine;
``audit`` proves it; ``subscription`` tells watchers. All of it lives on one event loop, so none of it takes a lock.
"""
