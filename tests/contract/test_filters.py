"""Tests of metadata filters in searches, and of the explanation of a search."""

import json

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select

from service.errors import InvalidFilter
from service.gallery.people.collections import Collection
from service.gallery.search.filters import condition_of
from service.gallery.storage.database import Database
from service.gallery.storage.tables import identity
from tests.photos import COLLINS, HOPPER, TRAINER, b64, brighter

PEOPLE = {
    "ada": {"team": "engines", "floor": 3, "tags": ["night", "fire"], "address": {"city": "Turin"}},
    "ben": {"team": "brakes", "floor": 10, "tags": [], "badge": None},
    "cleo": {"team": "engines", "floor": "three", "active": True},
    "dan": {'odd "{,} name ': 1},
}
EXAMPLES = [
    ({}, "ada ben cleo dan"),
    ({"team": "engines"}, "ada cleo"),
    ({"team": "engines", "floor": 3}, "ada"),
    ({"floor": {"$gte": 3}}, "ada ben"),
    ({"floor": {"$gt": 3, "$lte": 10}}, "ben"),
    ({"floor": {"$lt": "z"}}, "cleo"),
    ({"team": {"$ne": "engines"}}, "ben dan"),
    ({"team": {"$in": ["brakes", "wheels"]}}, "ben"),
    ({"team": {"$in": []}}, ""),
    ({"team": {"$nin": ["brakes"]}}, "ada cleo dan"),
    ({"badge": {"$exists": True}}, "ben"),
    ({"badge": None}, "ben"),
    ({"team": {"$exists": False}}, "dan"),
    ({"tags": {"$contains": "night"}}, "ada"),
    ({"address.city": "Turin"}, "ada"),
    ({"active": True}, "cleo"),
    ({'odd "{,} name ': {"$gte": 1}}, "dan"),
    ({'odd "{,} name ': 1}, "dan"),
    ({"$or": [{"team": "brakes"}, {"active": True}]}, "ben cleo"),
    ({"$not": {"team": "engines"}}, "ben dan"),
    ({"$and": [{"team": "engines"}, {"$not": {"floor": 3}}]}, "cleo"),
]
INVALID = [
    ({"team": {}}, "/filter/team"),
    ({"team": {"$like": "x"}}, "/filter/team/$like"),
    ({"$nor": []}, "/filter/$nor"),
    ({"$or": []}, "/filter/$or"),
    ({"$or": [1]}, "/filter/$or/0"),
    ({"floor": {"$gt": True}}, "/filter/floor/$gt"),
    ({"floor": [1]}, "/filter/floor"),
    ({"a..b": 1}, "/filter/a..b"),
    ({"a": {"$in": [{}]}}, "/filter/a/$in/0"),
    ({str(number): number for number in range(100)}, "/filter/64"),
    ({"a": {"$in": list(range(64))}}, "/filter/a"),
    ({"a/b": {"$x": 1}}, "/filter/a~1b/$x"),
    ({"$not": {"$not": {"$not": {"$not": {"$not": {"$not": {"$not": {"a": 1}}}}}}}}, "/filter" + "/$not" * 7),
]


@pytest.fixture
async def people(database: Database, collection: Collection) -> Collection:
    import uuid

    async with database.transaction() as connection:
        for name, metadata in PEOPLE.items():
            values = {"collection_id": collection.id, "id": uuid.uuid4(), "external_id": name, "label": name}
            await connection.execute(insert(identity).values(**values, metadata=metadata))
    return collection


async def matching(database: Database, collection: Collection, metadata_filter: dict) -> list[str]:
    """Returns the external ids of the identities of a collection that match a filter, sorted."""
    statement = select(identity.c.external_id).where(
        identity.c.collection_id == collection.id, condition_of(metadata_filter)
    )
    async with database.transaction() as connection:
        return sorted((await connection.execute(statement)).scalars())


@pytest.mark.anyio
@pytest.mark.parametrize(("metadata_filter", "names"), EXAMPLES, ids=lambda value: json.dumps(value))
async def test_example_filters(database: Database, people: Collection, metadata_filter: dict, names: str) -> None:
    assert await matching(database, people, metadata_filter) == names.split()


@pytest.mark.parametrize(("metadata_filter", "pointer"), INVALID)
def test_invalid_filter_raises_with_its_pointer(metadata_filter: dict, pointer: str) -> None:
    with pytest.raises(InvalidFilter) as caught:
        condition_of(metadata_filter)
    assert caught.value.pointer == pointer


scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["engines", "three", "Turin"])
fields = st.sampled_from(
    ["team", "floor", "tags", "badge", "address.city", "nothing", 'q"u', "{x", "a,b", " a ", "NULL", "a/b"]
)
ordered = st.sampled_from(["$gt", "$gte", "$lt", "$lte"])
simple = st.one_of(
    st.builds(lambda field, value: {field: value}, fields, scalars),
    st.builds(lambda field, values: {field: {"$in": values}}, fields, st.lists(scalars, max_size=3)),
    st.builds(lambda field, name, value: {field: {name: value}}, fields, ordered, st.integers(-5, 12)),
    st.builds(lambda field, exists: {field: {"$exists": exists}}, fields, st.booleans()),
)


@pytest.mark.anyio
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(one=simple, other=simple)
async def test_filters_follow_the_laws_of_logic(database: Database, people: Collection, one: dict, other: dict) -> None:
    """A filter and its negation divide the identities into two sets, and De Morgan's law holds."""
    matched, unmatched = await matching(database, people, one), await matching(database, people, {"$not": one})
    assert sorted(matched + unmatched) == sorted(PEOPLE)
    neither = await matching(database, people, {"$not": {"$or": [one, other]}})
    assert neither == await matching(database, people, {"$and": [{"$not": one}, {"$not": other}]})


def test_search_compares_matching_identities_only(client: httpx.Client, collection_name: str) -> None:
    collection = {"collection": collection_name}
    for name, path, team in (("collins", COLLINS, "crew"), ("hopper", HOPPER, "navy"), ("coach", TRAINER, "crew")):
        body = {"label": name, "metadata": {"team": team}, "face": "strongest", "images": [b64(path.read_bytes())]}
        assert client.post("/register", params=collection, json=body).status_code == 201

    def names(metadata_filter: dict | None) -> list[str]:
        body = {"image": b64(brighter(HOPPER, 0.9)), "top_k": 3, "filter": metadata_filter}
        response = client.post("/search", params=collection, json=body)
        assert response.status_code == 200, response.text
        return [candidate["external_id"] for candidate in response.json()["results"][0]["candidates"]]

    assert names(None)[0] == "hopper"
    assert sorted(names({"team": "crew"})) == ["coach", "collins"]
    assert names({"team": "army"}) == []
    form = {"filter": '{"team": "navy"}'}
    response = client.post("/search", params=collection, data=form, files={"image": HOPPER.read_bytes()})
    assert [one["external_id"] for one in response.json()["results"][0]["candidates"]] == ["hopper"]
    body = {"image": b64(HOPPER.read_bytes()), "filter": {"a": {"$x": 1}}}
    response = client.post("/search", params=collection, json=body)
    assert response.status_code == 422
    assert (response.json()["code"], response.json()["pointer"]) == ("invalid_filter", "/filter/a/$x")


def test_explain_returns_the_steps_of_a_search(client: httpx.Client, collection_name: str) -> None:
    collection = {"collection": collection_name}
    body = {"label": "hopper", "images": [b64(HOPPER.read_bytes())]}
    assert client.post("/register", params=collection, json=body).status_code == 201
    response = client.post("/search", params=collection, json={"image": b64(HOPPER.read_bytes()), "explain": True})
    explained = response.json()["results"][0]["explain"]
    assert (explained["plan"], explained["shortlist"]) == ("exact", 100)
    assert explained["steps"][0]["rows"] == 1
    assert {"centroid", "template", "identity"} <= {step["on"] for step in explained["steps"]}
    assert all(set(step) == {"node", "on", "index", "rows", "milliseconds", "depth"} for step in explained["steps"])
