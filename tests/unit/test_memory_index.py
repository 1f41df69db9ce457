"""The index in memory returns what a dictionary of the same identities would, after any changes."""

import itertools
import uuid
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.gallery.index import memory_index
from service.gallery.index.centroids import codes_of
from service.gallery.index.filter_shares import MAX_SHAPES, FilterShares, shape_of
from service.gallery.index.index_table import Entries
from service.gallery.index.memory_index import MemoryIndex
from service.gallery.index.snapshots import MAX_AGE, Server, Snapshot
from tests.gallery_rows import unit

DIM = 16
SNAPSHOT = Snapshot("10:20:11,15", Server(datetime(2026, 1, 1, tzinfo=UTC), 7), datetime(2026, 1, 2, tzinfo=UTC))
Floats = npt.NDArray[np.float32]


def id_of(number: int) -> npt.NDArray[np.uint8]:
    """Returns the id of an identity. Three identities in a row have ids with the same last 8 bytes."""
    return np.frombuffer(number.to_bytes(8, "big") + (number // 3 + 1).to_bytes(8, "big"), np.uint8)


def entries(people: dict[int, Floats], templates: int = 1) -> Entries:
    embeddings = np.array(list(people.values()), np.float32).reshape(-1, DIM)
    ids = np.array([id_of(number) for number in people], np.uint8).reshape(-1, 16)
    return Entries(ids, codes_of(embeddings), embeddings, np.full(len(people), templates, np.int32))


def nearest(index: MemoryIndex, probe: Floats, count: int) -> list[int]:
    [near] = index.nearest(index.state, [probe], count)
    return [int.from_bytes(row[:8].tobytes(), "big") for row in near.ids]


@given(st.lists(st.tuples(st.booleans(), st.sets(st.integers(0, 40), max_size=12)), max_size=12), st.integers(0, 99))
def test_the_index_follows_any_changes(changes: list[tuple[bool, set[int]]], seed: int) -> None:
    random = np.random.default_rng(seed)
    index, stored = MemoryIndex(DIM, 3, SNAPSHOT), dict[int, Floats]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_index, "MIN_CHANGED", 5)
        patch.setattr(memory_index, "MIN_SPARE_ROWS", 2)
        for inserts, numbers in changes:
            if inserts:
                inserted = {number: unit(random, dim=DIM) for number in numbers}
                index.put(entries(inserted, 2))
                stored |= inserted
            else:
                index.remove(np.array([id_of(number) for number in numbers], np.uint8).reshape(-1, 16))
                stored = {number: embedding for number, embedding in stored.items() if number not in numbers}
    assert (index.people, index.templates) == (len(stored), 2 * len(stored))
    assert set(nearest(index, unit(random, dim=DIM), 100)) == stored.keys()
    for number, embedding in stored.items():
        assert nearest(index, embedding, 1) == [number]
    ids = np.array([id_of(number) for number in range(50)], np.uint8)
    rows = index.find(index.state, ids)
    [within] = index.nearest(index.state, [unit(random, dim=DIM)], 100, within=rows)
    assert {int.from_bytes(row[:8].tobytes(), "big") for row in within.ids} == stored.keys()


def test_a_filled_index_finds_the_rows_of_its_identities() -> None:
    random = np.random.default_rng(1)
    people = {number: unit(random, dim=DIM) for number in range(500)}
    index = MemoryIndex(DIM, len(people), SNAPSHOT)
    index.fill(entries(people))
    index.sort()
    index.put(entries(people, 3))
    assert (index.people, index.templates) == (500, 1500)
    assert nearest(index, people[123], 1) == [123]


def test_the_order_is_that_of_the_cosines() -> None:
    random = np.random.default_rng(2)
    people = {number: unit(random, dim=DIM) for number in range(300)}
    index = MemoryIndex(DIM, len(people), SNAPSHOT)
    index.put(entries(people))
    probe = unit(random, dim=DIM)
    scores = [float(people[number] @ probe) for number in nearest(index, probe, 50)]
    assert len(scores) == 50
    assert all(second <= first + 0.02 for first, second in itertools.pairwise(scores))
    assert scores[0] == pytest.approx(max(float(embedding @ probe) for embedding in people.values()), abs=0.01)


def test_removed_identities_leave_no_bytes() -> None:
    random = np.random.default_rng(3)
    people = {number: unit(random, dim=DIM) for number in range(20)}
    index = MemoryIndex(DIM, len(people), SNAPSHOT)
    index.put(entries(people))
    index.remove(np.array([id_of(number) for number in people], np.uint8))
    assert not any(column.any() for column in index.state.table.columns)


def test_a_search_that_began_before_a_change_keeps_its_state() -> None:
    """The table is enlarged and compacted under a running search, which still finds the identities of its state."""
    random = np.random.default_rng(4)
    people = {number: unit(random, dim=DIM) for number in range(50)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_index, "MIN_CHANGED", 5)
        patch.setattr(memory_index, "MIN_SPARE_ROWS", 0)
        index = MemoryIndex(DIM, 1, SNAPSHOT)
        index.put(entries(people))
        state = index.state
        index.put(entries({number: unit(random, dim=DIM) for number in range(100, 300)}))
        index.remove(np.array([id_of(number) for number in range(100, 300)], np.uint8))
    ids = np.array([id_of(number) for number in range(300)], np.uint8)
    for number, embedding in people.items():
        [found] = index.nearest(state, [embedding], 1, within=index.find(state, ids))
        assert int.from_bytes(found.ids[0, :8].tobytes(), "big") == number


def test_snapshots_are_ordered() -> None:
    def snapshot(visible: str, **changes: Any) -> Snapshot:
        values: dict[str, Any] = {"server": SNAPSHOT.server, "taken_at": SNAPSHOT.taken_at} | changes
        return Snapshot(visible, **values)

    ordered = ["10:20:11,15", "10:20:15", "10:20:", "10:21:20", "12:21:"]
    assert sorted(map(snapshot, reversed(ordered)), key=Snapshot.position) == [snapshot(item) for item in ordered]
    assert SNAPSHOT.xmin == 10
    assert SNAPSHOT.precedes(snapshot("10:20:15"))
    assert not SNAPSHOT.precedes(snapshot("9:20:"))
    assert not SNAPSHOT.precedes(snapshot("10:20:15", server=Server(SNAPSHOT.server.started_at, 8)))
    assert not SNAPSHOT.precedes(snapshot("10:20:15", taken_at=SNAPSHOT.taken_at + MAX_AGE * 1.01))


def test_contenders_are_the_first_ones_and_those_with_several_templates() -> None:
    random = np.random.default_rng(5)
    people = {number: unit(random, dim=DIM) for number in range(40)}
    index = MemoryIndex(DIM, len(people), SNAPSHOT)
    index.put(entries({number: people[number] for number in range(20)}))
    index.put(entries({number: people[number] for number in range(20, 40)}, 3))
    [near] = index.nearest(index.state, [unit(random, dim=DIM)], 30)
    numbers = [int.from_bytes(row[:8].tobytes(), "big") for row in near.ids]
    lowest = near.scores[3] - near.margin
    expected = [number for number, score in zip(numbers, near.scores, strict=True) if score >= lowest or number >= 20]
    assert [int.from_bytes(row[:8].tobytes(), "big") for row in near.contenders(4)] == expected
    assert index.has_several_templates


def test_shares_of_filters_are_those_of_their_shapes() -> None:
    shares, collection_id = FilterShares(), uuid.uuid4()
    first = shape_of(collection_id, {"floor": 3, "$or": [{"a": {"$gt": 1}}, {"b": "x"}]})
    assert first == shape_of(collection_id, {"floor": 7, "$or": [{"a": {"$gt": 9}}, {"b": "y"}]})
    assert first != shape_of(collection_id, {"floor": 3, "$or": [{"a": {"$lt": 1}}, {"b": "x"}]})
    assert first != shape_of(uuid.uuid4(), {"floor": 3, "$or": [{"a": {"$gt": 1}}, {"b": "x"}]})
    assert shares.expected(first) is None
    shares.observe(first, 0.5)
    assert shares.expected(first) == 0.5
    shares.observe(first, 0.1)
    assert 0.1 < (shares.expected(first) or 0) < 0.5
    for number in range(MAX_SHAPES):
        shares.observe(shape_of(collection_id, {f"field{number}": 1}), 0.5)
    assert shares.expected(first) is None
