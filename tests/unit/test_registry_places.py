"""The places of images that registries are asked for."""

from __future__ import annotations

from collections import Counter

from container_manager.engine.registry_places import IN_ALL, RegistryPlaces


def test_images_are_bounded_in_all_although_registries_that_have_not_answered_yet_make_room_once_they_do() -> None:
    places, under_way = RegistryPlaces(4), Counter[str]()
    for number in range(1000):
        registry = f"r{number}.test"
        if places.has_one(registry, under_way):
            under_way[registry] += 1
            places.answered.add(registry)
    assert IN_ALL == under_way.total()
