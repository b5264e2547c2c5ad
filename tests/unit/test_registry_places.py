"""The places of images that registries are asked for."""

from __future__ import annotations

from collections import Counter

from container_manager.engine.registry_places import IN_ALL, MOST_KNOWN, RegistryPlaces


def test_images_are_bounded_in_all_although_registries_that_have_not_answered_yet_make_room_once_they_do() -> None:
    places, under_way = RegistryPlaces(4), Counter[str]()
    for number in range(1000):
        registry = f"r{number}.test"
        if places.has_one(registry, under_way):
            under_way[registry] += 1
            places.note_answer(registry)
    assert IN_ALL == under_way.total()


def test_a_caller_with_any_number_of_registries_has_those_forgotten_that_answered_longest_ago() -> None:
    places = RegistryPlaces(4)
    for number in range(2 * MOST_KNOWN):
        places.note_answer(f"r{number}.test")
        if number % (MOST_KNOWN // 2) == 0:
            places.note_answer("in-use.test")
    assert MOST_KNOWN == len(places.answered)
    assert {"in-use.test", f"r{2 * MOST_KNOWN - 1}.test"} <= places.answered.keys()
    assert "r0.test" not in places.answered
