"""The product's services, and which of them each listener serves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from google.protobuf.descriptor import ServiceDescriptor

from botmaker.container.v1 import (
    bot_provisioner_pb2,
    container_maintainer_pb2,
    container_manager_pb2,
    container_observer_pb2,
)
from container_manager.addresses import Address, UnixAddress, parse_address
from container_manager.config import ServerConfig
from container_manager.errors import StartupError

SERVICES: Mapping[str, ServiceDescriptor] = {
    "manager": container_manager_pb2.DESCRIPTOR.services_by_name["ContainerManager"],
    "observer": container_observer_pb2.DESCRIPTOR.services_by_name["ContainerObserver"],
    "provisioner": bot_provisioner_pb2.DESCRIPTOR.services_by_name["BotProvisioner"],
    "maintainer": container_maintainer_pb2.DESCRIPTOR.services_by_name["ContainerMaintainer"],
}
"""By the name that ``--services`` has for it."""

# A token leaks more easily than a group membership, and these two neither write to a root nor run programs in bots.
_ON_TCP = ("manager", "observer")


def served_services(config: ServerConfig) -> dict[Address, tuple[ServiceDescriptor, ...]]:
    """The services of each listener, in the order of :data:`SERVICES`.

    Raises :class:`StartupError` for an address that is no listener's or is given twice, and for an unknown service.
    """
    served = {address: _default(address) for address in map(parse_address, config.listen)}
    given = set()
    for text in config.services:
        # The path of a unix socket may have an equals sign in it.
        address_text, _, names = text.rpartition("=")
        address = parse_address(address_text)
        if address not in served:
            raise StartupError(f"--services {text}: the service does not listen on {address}; it needs a --listen")
        if address in given:
            raise StartupError(f"--services has {address} twice; give all of its services at once")
        given.add(address)
        wanted = names.split(",")
        if unknown := sorted(set(wanted) - set(SERVICES)):
            known = ", ".join(SERVICES)
            raise StartupError(f"--services {text}: {unknown[0]!r} is no service; there are {known}")
        served[address] = _named(wanted)
    return served


def not_served(served: Iterable[ServiceDescriptor]) -> tuple[ServiceDescriptor, ...]:
    """The other services of the product."""
    names = {service.full_name for service in served}
    return tuple(service for service in SERVICES.values() if service.full_name not in names)


def _default(address: Address) -> tuple[ServiceDescriptor, ...]:
    return _named(SERVICES if isinstance(address, UnixAddress) else _ON_TCP)


def _named(names: Iterable[str]) -> tuple[ServiceDescriptor, ...]:
    wanted = set(names)
    return tuple(service for name, service in SERVICES.items() if name in wanted)
