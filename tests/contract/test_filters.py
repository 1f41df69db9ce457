"""Searches among some people, and what they tell of themselves."""

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
WORKED = [
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
WRONG = [
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


async def among(database: Database, collection: Collection, wish: dict) -> list[str]:
    statement = select(identity.c.external_id).where(identity.c.collection_id == collection.id, condition_of(wish))
    async with database.transaction() as connection:
        return sorted((await connection.execute(statement)).scalars())


@pytest.mark.anyio
@pytest.mark.parametrize(("wish", "names"), WORKED, ids=lambda value: json.dumps(value))
async def test_worked_filters(database: Database, people: Collection, wish: dict, names: str) -> None:
    assert await among(database, people, wish) == names.split()


@pytest.mark.parametrize(("wish", "pointer"), WRONG)
def test_what_is_wrong_is_pointed_at(wish: dict, pointer: str) -> None:
    with pytest.raises(InvalidFilter) as caught:
        condition_of(wish)
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
    st.builds(lambda field, there: {field: {"$exists": there}}, fields, st.booleans()),
)


@pytest.mark.anyio
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(one=simple, other=simple)
async def test_the_laws_of_logic(database: Database, people: Collection, one: dict, other: dict) -> None:
    """A filter and its opposite share the people among them, and De Morgan's law holds."""
    yes, no = await among(database, people, one), await among(database, people, {"$not": one})
    assert sorted(yes + no) == sorted(PEOPLE)
    neither = await among(database, people, {"$not": {"$or": [one, other]}})
    assert neither == await among(database, people, {"$and": [{"$not": one}, {"$not": other}]})


def test_a_search_among_some(client: httpx.Client, collection_name: str) -> None:
    for name, path, team in (("collins", COLLINS, "crew"), ("hopper", HOPPER, "navy"), ("coach", TRAINER, "crew")):
        body = {"collection": collection_name, "label": name, "metadata": {"team": team}, "face": "strongest"}
        assert client.post("/register", json=body | {"images": [b64(path.read_bytes())]}).status_code == 201

    def names(wish: dict | None) -> list[str]:
        body = {"collection": collection_name, "image": b64(brighter(HOPPER, 0.9)), "top_k": 3, "filter": wish}
        answer = client.post("/search", json=body)
        assert answer.status_code == 200, answer.text
        return [candidate["external_id"] for candidate in answer.json()["results"][0]["candidates"]]

    assert names(None)[0] == "hopper"
    assert sorted(names({"team": "crew"})) == ["coach", "collins"]
    assert names({"team": "army"}) == []
    form = {"collection": collection_name, "filter": '{"team": "navy"}'}
    answer = client.post("/search", data=form, files={"image": HOPPER.read_bytes()})
    assert [one["external_id"] for one in answer.json()["results"][0]["candidates"]] == ["hopper"]
    wrong = client.post(
        "/search", json={"collection": collection_name, "image": b64(HOPPER.read_bytes()), "filter": {"a": {"$x": 1}}}
    )
    assert (wrong.status_code, wrong.json()["code"], wrong.json()["pointer"]) == (422, "invalid_filter", "/filter/a/$x")


def test_a_search_explains_itself(client: httpx.Client, collection_name: str) -> None:
    body = {"collection": collection_name, "label": "hopper", "images": [b64(HOPPER.read_bytes())]}
    assert client.post("/register", json=body).status_code == 201
    answer = client.post(
        "/search", json={"collection": collection_name, "image": b64(HOPPER.read_bytes()), "explain": True}
    )
    explained = answer.json()["results"][0]["explain"]
    assert (explained["plan"], explained["shortlist"]) == ("exact", 100)
    assert explained["steps"][0]["rows"] == 1
    assert {"centroid", "template", "identity"} <= {step["on"] for step in explained["steps"]}
    assert all(set(step) == {"node", "on", "index", "rows", "milliseconds", "depth"} for step in explained["steps"])
