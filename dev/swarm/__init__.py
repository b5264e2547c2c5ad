"""A Docker Swarm of several machines on this one, for tests and `make serve-swarm`."""

from dev.swarm.bed import SwarmBed
from dev.swarm.machine import SwarmError
from dev.swarm.node import Node

__all__ = ["Node", "SwarmBed", "SwarmError"]
