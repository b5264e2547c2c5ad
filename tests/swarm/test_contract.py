"""The backend for a swarm keeps the contract of all backends."""

from __future__ import annotations

from tests.support.lifecycle_contract import LifecycleContract
from tests.support.provisioning_contract import ProvisioningContract
from tests.support.reflection_contract import ReflectionContract
from tests.support.watch_contract import WatchContract


class TestLifecycle(LifecycleContract):
    """With the fixtures of this directory."""


class TestWatch(WatchContract):
    """With the fixtures of this directory."""


class TestProvisioning(ProvisioningContract):
    """With the fixtures of this directory."""


class TestReflection(ReflectionContract):
    """With the fixtures of this directory."""
