"""The container that each bot must have according to the answers of its calls, compared with later answers."""

from __future__ import annotations

from tests.support.recorded_calls import Outcome

UNKNOWN = "unknown"


class Ledger:
    """The expected containers of bots that only one caller uses, one call after another.

    A bot has the container with the id of the last answer, or none, or, after a call without a known outcome, either.
    ``wrong`` holds every answer that contradicts earlier ones.
    """

    def __init__(self) -> None:
        self.entries: dict[str, str | None] = {}
        self.wrong: list[str] = []

    def note(self, outcome: Outcome) -> None:
        """Apply one outcome."""
        getattr(self, f"_{outcome.verb}", self._other)(outcome)

    def _contradiction(self, outcome: Outcome, seen: str | None) -> None:
        before = self._before(outcome)
        if before not in (UNKNOWN, seen):
            self.wrong.append(f"{outcome.verb} of {outcome.bot_id} told {outcome.code} {seen}, not {before}")

    def _before(self, outcome: Outcome) -> str | None:
        return self.entries.get(outcome.bot_id)

    def _CreateContainer(self, outcome: Outcome) -> None:  # noqa: N802 - named by the verbs
        if outcome.code == "OK":
            # A retry gets the id of the container that its first attempt created; no earlier answer had that id.
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
