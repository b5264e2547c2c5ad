"""``--filter KEY=VALUE`` of ``botctl list``: by label, state or host name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from botctl.exit_codes import ExitCode, Failure
from botctl.options import once
from botctl.rendering.words import state_named, states
from botctl.suggestion import suggestion
from botmaker.container.v1 import container_manager_pb2 as pb

_KEYS = ("label", "state", "hostname")


@dataclass
class Filters:
    """What the containers of a list must have: every label, and one of the states and of the host names."""

    labels: list[tuple[str, str]] = field(default_factory=list)
    """Keys with their values."""
    keys: list[str] = field(default_factory=list)
    """Keys of labels with any value."""
    states: list[str] = field(default_factory=list)
    hostnames: list[str] = field(default_factory=list)
    """With ``*`` for any characters; upper and lower case are the same."""

    @classmethod
    def read(
        cls, filters: Iterable[tuple[str, str]], only_states: Sequence[str], labels: Sequence[tuple[str, str]]
    ) -> Filters:
        """From the options ``--filter``, ``--state`` and ``--label``. Raises :class:`Failure`."""
        found = cls(labels=list(labels), states=list(only_states))
        for key, value in filters:
            if key not in _KEYS:
                raise Failure(f"no such filter: {key!r}{suggestion(key, _KEYS)}", ExitCode.USAGE)
            if key == "hostname":
                found.hostnames.append(value.lower())
            elif key == "state":
                if value.lower() not in states():
                    raise Failure(f"no such state: {value!r}{suggestion(value, states())}", ExitCode.USAGE)
                found.states.append(value.lower())
            else:
                name, separator, wanted = value.partition("=")
                found.labels.append((name, wanted)) if separator else found.keys.append(name)
        return found

    def request(self) -> pb.ListManagedContainersRequest:
        """The list with what the server can filter."""
        return pb.ListManagedContainersRequest(
            states=[state_named(word) for word in self.states], labels=once("--label", self.labels)
        )

    def matches(self, status: pb.ContainerStatus) -> bool:
        """Whether a container of that list has the rest."""
        hostname = status.hostname.lower()
        return all(key in status.labels for key in self.keys) and (
            not self.hostnames or any(fnmatchcase(hostname, pattern) for pattern in self.hostnames)
        )

    def __bool__(self) -> bool:
        return bool(self.labels or self.keys or self.states or self.hostnames)
