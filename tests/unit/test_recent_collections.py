"""Collections that are remembered for a moment."""

import uuid
from dataclasses import fields

import pytest

from service.gallery.people.collections import Collection
from service.gallery.search import search
from service.gallery.search.search import MAX_AGE_S, MAX_COLLECTIONS, RecentCollections


def named(name: str) -> Collection:
    values = {field.name: None for field in fields(Collection)}
    return Collection(**values | {"id": uuid.uuid4(), "name": name})  # type: ignore[arg-type]


def test_a_collection_is_remembered_for_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(search.time, "monotonic", lambda: now[0])
    recent, collection = RecentCollections(), named("a")
    recent.remember(collection)
    assert recent.find("a") is collection
    assert recent.find("b") is None
    now[0] += MAX_AGE_S
    assert recent.find("a") is None


def test_a_forgotten_collection_is_read_again() -> None:
    recent = RecentCollections()
    recent.remember(named("a"))
    recent.forget("a")
    recent.forget("never read")
    assert recent.find("a") is None


def test_the_number_of_collections_is_limited() -> None:
    recent = RecentCollections()
    for number in range(2 * MAX_COLLECTIONS + 1):
        recent.remember(named(str(number)))
    assert sum(recent.find(str(number)) is not None for number in range(2 * MAX_COLLECTIONS + 1)) <= MAX_COLLECTIONS
