"""What the answers of a bot's calls say that there must be, compared with what is there."""

from __future__ import annotations

from tests.support.recorded_calls import Outcome

UNKNOWN = "unknown"


class Ledger:
    """Of bots that one caller has for itself, one call after another.

    A bot has the container with the id that the last answer told, or none, or, after a call whose end nobody told,
    either. ``wrong`` holds every answer that contradicts those before it.
    """

    def __init__(self) -> None:
        self.entries: dict[str, str | None] = {}
        self.wrong: list[str] = []

    def note(self, outcome: Outcome) -> None:
        """Take in one outcome."""
        getattr(self, f"_{outcome.verb}", self._other)(outcome)

    def _contradiction(self, outcome: Outcome, seen: str | None) -> None:
        before = self._before(outcome)
        if before not in (UNKNOWN, seen):
            self.wrong.append(f"{outcome.verb} of {outcome.bot_id} told {outcome.code} {seen}, not {before}")

    def _before(self, outcome: Outcome) -> str | None:
        return self.entries.get(outcome.bot_id)

    def _CreateContainer(self, outcome: Outcome) -> None:  # noqa: N802 - by the verbs' names
        if outcome.code == "OK":
            # A retry whose first try had made it gets the same id; that one was never told.
            self._contradiction(outcome, None)
            self.entries[outcome.bot_id] = outcome.response.container_id
        elif outcome.code == "ALREADY_EXISTS":
            seen = dict(outcome.metadata)["container_id"]
            self._contradiction(outcome, seen)
            self.entries[outcome.bot_id] = seen
        elif self._before(outcome) is None:
            self.entries[outcome.bot_id] = UNKNOWN

    def _RemoveContainer(self, outcome: Outcome) -> None:  # noqa: N802
        self.entries[outcome.bot_id] = None if outcome.code == "OK" else UNKNOWN

    def _GetContainerStatus(self, outcome: Outcome) -> None:  # noqa: N802
        if outcome.code == "OK":
            found = outcome.response.HasField("status")
            self._contradiction(outcome, outcome.response.status.container_id if found else None)

    def _ListManagedContainers(self, outcome: Outcome) -> None:  # noqa: N802
        if outcome.code == "OK":
            # A foreign container may carry a bot's labels, but not its name.
            ours = [each for each in outcome.response.containers if each.name == f"botmaker-{each.bot_id}"]
            listed = {each.bot_id: each.container_id for each in ours}
            for bot_id, entry in self.entries.items():
                if entry not in (UNKNOWN, listed.get(bot_id)):
                    self.wrong.append(f"the list shows {listed.get(bot_id)} for {bot_id}, not {entry}")

    def _other(self, outcome: Outcome) -> None:
        if outcome.code == "NOT_FOUND":
            self._contradiction(outcome, None)
        elif outcome.code == "OK" and outcome.verb != "StopContainer" and self._before(outcome) is None:
            self.wrong.append(f"{outcome.verb} of {outcome.bot_id} told OK, and there was none")
