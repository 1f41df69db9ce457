"""Fields of metadata in memory never exclude an identity that fulfils a filter."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.gallery.index import field_requests
from service.gallery.index.field_requests import MAX_FIELDS, FieldRequests
from service.gallery.index.fields import LARGEST, Bound, Field, OneOf, conditions_of, mask_of

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(["x", "y", "1"]), st.just(0.5))
NUMBERS = st.one_of(st.integers(-3, 3), st.floats(allow_nan=False, allow_infinity=False), st.integers(10**30, 10**32))
ITEMS = st.one_of(
    SCALARS,
    st.fixed_dictionaries({"$in": st.lists(SCALARS, max_size=3)}),
    st.dictionaries(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), NUMBERS, min_size=1),
    st.fixed_dictionaries({"$ne": SCALARS}),
    st.fixed_dictionaries({"$gt": st.just("x")}),
)
FILTERS = st.recursive(
    st.dictionaries(st.sampled_from(["a", "b", "c"]), ITEMS, max_size=3),
    lambda parts: st.one_of(
        st.dictionaries(st.sampled_from(["$and", "$or"]), st.lists(parts, min_size=1, max_size=3), min_size=1),
        st.fixed_dictionaries({"$not": parts}),
    ),
    max_leaves=6,
)
MISSING = object()


def hash_of(value: Any) -> int:
    """Returns a hash with few values, of which some collide: equal numbers have the same."""
    key = json.dumps(float(value)) if isinstance(value, int | float) and not isinstance(value, bool) else repr(value)
    return sum(key.encode()) % 5 + 1


def field_of(values: list[Any]) -> Field:
    field = Field.empty(len(values))
    for row, value in enumerate(values):
        if value is MISSING:
            continue
        field.hashes[row] = hash_of(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            field.numbers[row] = np.clip(np.float64(value), -LARGEST, LARGEST)
    return field


def fulfils(people: Mapping[str, Any], metadata_filter: Mapping[str, Any]) -> bool:
    """Evaluates the filter as PostgreSQL does."""
    return all(_fulfils(people, name, value) for name, value in metadata_filter.items())


def _fulfils(person: Mapping[str, Any], name: str, value: Any) -> bool:
    if name in ("$and", "$or"):
        return (all if name == "$and" else any)(fulfils(person, part) for part in value)
    if name == "$not":
        return not fulfils(person, value)
    stored = person.get(name, MISSING)
    return all(_compare(stored, *item) for item in (value if isinstance(value, dict) else {"$eq": value}).items())


def _compare(stored: Any, operator: str, operand: Any) -> bool:
    if operator == "$eq":
        return stored is not MISSING and isinstance(stored, bool) == isinstance(operand, bool) and stored == operand
    if operator == "$ne":
        return not _compare(stored, "$eq", operand)
    if operator == "$in":
        return any(_compare(stored, "$eq", one) for one in operand)
    if isinstance(stored, bool) or type(stored) not in ((str,) if isinstance(operand, str) else (int, float)):
        return False
    order = {"$gt": stored > operand, "$gte": stored >= operand, "$lt": stored < operand, "$lte": stored <= operand}
    return order[operator]


@given(
    st.lists(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.one_of(SCALARS, NUMBERS)), min_size=1, max_size=8),
    FILTERS,
    st.sets(st.sampled_from(["a", "b", "c"])),
)
def test_a_mask_contains_everybody_who_fulfils_the_filter(
    people: list[dict[str, Any]], metadata_filter: dict[str, Any], in_memory: set[str]
) -> None:
    fields = {(name,): field_of([person.get(name, MISSING) for person in people]) for name in in_memory}
    values = [
        value
        for condition in conditions_of(metadata_filter)
        if isinstance(condition, OneOf)
        for value in condition.values
    ]
    mask = mask_of(metadata_filter, fields, {value: hash_of(json.loads(value)) for value in values})
    for row, person in enumerate(people):
        assert mask is None or mask[row] or not fulfils(person, metadata_filter)


def test_a_mask_excludes_those_who_differ() -> None:
    fields = {
        ("team",): Field(np.array([7, 8, 7, 0], np.int32), np.zeros(4, np.float32)),
        ("address", "floor"): Field(np.array([1, 2, 3, 0], np.int32), np.array([1, 5, 9, 0], np.float32)),
    }
    hashes = {'"engines"': 7, '"brakes"': 8}

    def rows(metadata_filter: dict[str, Any]) -> list[int] | None:
        mask = mask_of(metadata_filter, fields, hashes)
        return None if mask is None else np.flatnonzero(mask).tolist()

    assert rows({"team": "engines"}) == [0, 2]
    assert rows({"team": {"$in": ["engines", "brakes"]}}) == [0, 1, 2]
    assert rows({"team": {"$in": []}}) == []
    assert rows({"address.floor": {"$gte": 5}}) == [1, 2]
    assert rows({"address.floor": {"$lt": 5}}) == [0, 1]  # a bound includes its number; the database excludes it
    assert rows({"team": "engines", "address.floor": {"$gt": 5}}) == [2]
    assert rows({"$or": [{"team": "brakes"}, {"address.floor": {"$lte": 1}}]}) == [0, 1]
    assert rows({"$or": [{"team": "brakes"}, {"unknown": 1}]}) is None
    assert rows({"$not": {"team": "engines"}}) is None
    assert rows({"unknown": 1, "team": "engines"}) == [0, 2]


def test_numbers_beyond_32_bits_keep_their_order() -> None:
    for number, expected in [(10**400 // 10**100, LARGEST), (-(10**40), -LARGEST), (1e-40, 0.0), (2.5, 2.5)]:
        [bound] = conditions_of({"a": {"$gte": number}})
        assert bound == Bound(("a",), expected, is_lower=True)


def test_the_number_of_fields_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = FieldRequests()
    requests.use([(f"field{number}",) for number in range(MAX_FIELDS + 3)])
    assert len(requests.wanted) == MAX_FIELDS
    assert ("field9",) not in requests.wanted
    monkeypatch.setattr(field_requests, "MIN_UNUSED_S", -1.0)
    requests.use([("field9",)])
    assert ("field9",) in requests.wanted
    assert len(requests.wanted) == MAX_FIELDS
    requests.fail(("field9",))
    assert ("field9",) not in requests.wanted
