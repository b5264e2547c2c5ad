"""How many images registries are asked for at once, so that those that do not answer hold up no other."""

from __future__ import annotations

from collections import Counter

REGISTRIES_AT_ONCE = 128
"""Registries that have answered, with one image each; and beside them, as many that have not answered yet. Each image
may only wait: so many that registries that never answer leave room for others."""
FURTHER_AT_ONCE = 64
"""Further images of registries that have answered. They can be many of few registries, so they have places of their
own: a registry that stops leaves the first place of every other one."""
IN_ALL = 2 * REGISTRIES_AT_ONCE + FURTHER_AT_ONCE
"""Also while registries answer, or cease to, with images under way."""
MOST_KNOWN = 1_000


class RegistryPlaces:
    """Decides which images have a place. Not safe for threads: its user holds a lock."""

    def __init__(self, of_one_registry: int) -> None:
        """``of_one_registry``: the most images at once of a registry that has answered, should it stop."""
        self._of_one_registry = of_one_registry
        self.answered: dict[str, None] = {}
        """Registries that have answered, until one does not, or :data:`MOST_KNOWN` others have since."""

    def note_answer(self, registry: str) -> None:
        """It has answered, for the first time or again."""
        self.answered.pop(registry, None)
        self.answered[registry] = None
        if len(self.answered) > MOST_KNOWN:
            del self.answered[next(iter(self.answered))]

    def has_one(self, registry: str, under_way: Counter[str]) -> bool:
        """Whether a further image of this registry has a place. ``under_way``: how many images, by registry."""
        has_answered = registry in self.answered
        images = under_way[registry]
        if under_way.total() >= IN_ALL:
            return False
        if not images:
            alike = sum(count > 0 for each, count in under_way.items() if (each in self.answered) is has_answered)
            return alike < REGISTRIES_AT_ONCE
        further = sum(count - 1 for count in under_way.values() if count)
        return has_answered and images < self._of_one_registry and further < FURTHER_AT_ONCE
