"""The backend for a swarm keeps the contract of all backends."""

from __future__ import annotations

from tests.support.backend_contract import LifecycleContract, ProvisioningContract, WatchContract


class TestLifecycle(LifecycleContract):
    """With the fixtures of this directory."""


class TestWatch(WatchContract):
    """With the fixtures of this directory."""


class TestProvisioning(ProvisioningContract):
    """With the fixtures of this directory."""
